//! Whose requests were met in which code while memory grew: page faults carry a stack and the request that was
//! under way, so a function that fills a container is seen at work. It shows routes, where counting requests
//! beside levels shows only what they go along with.

use std::collections::{BTreeMap, VecDeque};

use crate::attribution::Attribution;
use crate::attribution::routes::RouteId;
use crate::events::{Faults, FilledBy, FrameKind, Nanos, RequestId, SiteId};

/// Sites that are remembered.
const MOST_SITES: usize = 2_048;
/// Requests that wait for their record.
const MOST_WAITING: usize = 8_192;
/// How long they do.
const WAIT_SECONDS: f64 = 30.0;

/// Requests met at sites.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    waiting: VecDeque<(Nanos, SiteId, RequestId)>,
    met: BTreeMap<SiteId, BTreeMap<RouteId, u32>>,
}

impl Witnesses {
    /// Takes the places of page faults. Those outside requests say nothing: a thread's request may be unknown.
    pub fn faults(&mut self, faults: &Faults) {
        for one in &faults.sites {
            let Some(request) = one.request else { continue };
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back((faults.at, one.site, request));
        }
    }

    /// Counts the requests whose records are in by `now`.
    pub fn settle(&mut self, now: Nanos, attribution: &Attribution) {
        let met = &mut self.met;
        self.waiting.retain(|(at, site, request)| {
            let Some(entry) = attribution.requests.get(*request) else {
                return now.since(*at) < WAIT_SECONDS;
            };
            if met.len() < MOST_SITES || met.contains_key(site) {
                *met.entry(*site)
                    .or_default()
                    .entry(entry.route)
                    .or_default() += 1;
            }
            false
        });
    }

    /// Requests by route that were met in one of these functions.
    pub fn of(&self, fillers: &[FilledBy], attribution: &Attribution) -> BTreeMap<RouteId, f64> {
        let mut out = BTreeMap::new();
        if fillers.is_empty() {
            return out;
        }
        for (site, routes) in &self.met {
            let fills = attribution.sites.get(*site).is_some_and(|site| {
                site.stack.iter().any(|frame| {
                    frame.kind == FrameKind::User
                        && fillers
                            .iter()
                            .any(|by| (&by.function, &by.file) == (&frame.function, &frame.file))
                })
            });
            if !fills {
                continue;
            }
            for (route, count) in routes {
                *out.entry(attribution.routes.resolve(*route)).or_default() += f64::from(*count);
            }
        }
        out
    }

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<(Nanos, SiteId, RequestId)>() + self.met.len() * 160
    }
}
