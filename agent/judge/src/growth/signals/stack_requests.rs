//! Stack-attributed requests: page faults have a stack and the current request, so they show which routes
//! execute a container's writer sites. This is direct evidence for a route; request counts are only
//! correlated with growth.

use std::collections::{BTreeMap, VecDeque};

use crate::attribution::Attribution;
use crate::attribution::keys::RouteId;
use crate::events::{Faults, FrameKind, Nanos, RequestId, SiteId, WriterSite};

/// Maximum number of sites.
const MOST_SITES: usize = 2_048;
/// Maximum number of requests that wait for their record.
const MOST_WAITING: usize = 8_192;
/// Seconds for which they wait.
const WAIT_SECONDS: f64 = 30.0;

/// Requests by site.
#[derive(Clone, Debug, Default)]
pub struct StackRequests {
    waiting: VecDeque<(Nanos, SiteId, RequestId)>,
    met: BTreeMap<SiteId, BTreeMap<RouteId, u32>>,
}

impl StackRequests {
    /// Takes page faults. Faults without a request are ignored: the request may be unknown.
    pub fn faults(&mut self, faults: &Faults) {
        for one in &faults.sites {
            let Some(request) = one.request else { continue };
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back((faults.at, one.site, request));
        }
    }

    /// Counts the requests whose records have arrived by `now`.
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

    /// Requests by route with one of these writer functions in their stack.
    pub fn of(&self, writers: &[WriterSite], attribution: &Attribution) -> BTreeMap<RouteId, f64> {
        let mut out = BTreeMap::new();
        if writers.is_empty() {
            return out;
        }
        for (site, routes) in &self.met {
            let writes = attribution.sites.get(*site).is_some_and(|site| {
                site.stack.iter().any(|frame| {
                    frame.kind == FrameKind::User
                        && writers
                            .iter()
                            .any(|by| (&by.function, &by.file) == (&frame.function, &frame.file))
                })
            });
            if !writes {
                continue;
            }
            for (route, count) in routes {
                *out.entry(attribution.routes.resolve(*route)).or_default() += f64::from(*count);
            }
        }
        out
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<(Nanos, SiteId, RequestId)>() + self.met.len() * 160
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::events::{Binding, Frame, Request, Site, SiteFaults};

    const SITE: SiteId = SiteId(7);

    fn second(n: u64) -> Nanos {
        Nanos(n * 1_000_000_000)
    }

    fn attribution() -> Attribution {
        let mut attribution = Attribution::new(10.0);
        let frame = |function: &str, kind| Frame {
            function: function.to_owned(),
            file: Some("app.py".to_owned()),
            line: Some(3),
            module: String::new(),
            kind,
        };
        let stack: Arc<[Frame]> = Arc::new([
            frame("loads", FrameKind::Library),
            frame("remember", FrameKind::User),
        ]);
        attribution.sites.observe(&Site {
            id: SITE,
            stack,
            truncated: false,
        });
        attribution
    }

    fn ended(id: u64, head: &str) -> Request {
        Request {
            id: RequestId(id),
            start: second(1),
            end: second(1),
            head: head.to_owned(),
            token: None,
            status: Some(200),
            binding: Binding::Exact,
            body_bytes: 0,
            token_uncertain: false,
            path_cut: false,
            again: false,
        }
    }

    fn met(at: u64, request: Option<u64>) -> Faults {
        Faults {
            at: second(at),
            sites: vec![SiteFaults {
                site: SITE,
                request: request.map(RequestId),
                bytes: 4096,
            }],
            ..Faults::default()
        }
    }

    fn writer(function: &str) -> Vec<WriterSite> {
        vec![WriterSite {
            function: function.to_owned(),
            file: Some("app.py".to_owned()),
            line: Some(9),
            samples: 1,
        }]
    }

    fn routes(
        stack_requests: &StackRequests,
        function: &str,
        known: &Attribution,
    ) -> Vec<(String, f64)> {
        let of = stack_requests.of(&writer(function), known);
        let named = of.into_iter();
        named
            .map(|(route, count)| (known.routes.get(route).name.clone(), count))
            .collect()
    }

    #[test]
    fn requests_count_for_the_function_they_were_met_in_once_their_record_is_in() {
        let mut known = attribution();
        let mut stack_requests = StackRequests::default();
        stack_requests.faults(&met(2, Some(1)));
        stack_requests.faults(&met(2, None));
        stack_requests.settle(second(3), &known);
        assert!(routes(&stack_requests, "remember", &known).is_empty());
        known.request(&ended(1, "GET /api/data"));
        stack_requests.settle(second(4), &known);
        stack_requests.settle(second(5), &known);
        let data = ("GET /api/data".to_owned(), 1.0);
        assert_eq!(routes(&stack_requests, "remember", &known), [data]);
        // A library function, and a function that is in no stack.
        assert!(routes(&stack_requests, "loads", &known).is_empty());
        assert!(routes(&stack_requests, "forget", &known).is_empty());
    }

    #[test]
    fn a_request_without_a_record_is_given_up() {
        let mut known = attribution();
        let mut stack_requests = StackRequests::default();
        stack_requests.faults(&met(2, Some(1)));
        stack_requests.settle(second(40), &known);
        known.request(&ended(1, "GET /api/data"));
        stack_requests.settle(second(41), &known);
        assert!(routes(&stack_requests, "remember", &known).is_empty());
    }
}
