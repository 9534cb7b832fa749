//! Confirmed findings of an earlier observation of the same process, or of an earlier window of traced allocations. They
//! stand until the memory is released, or until enough traffic shows that nothing grows any more. So a restart of
//! heaptide does not resolve an alert, and neither does the next window.

use crate::events::{MemorySample, Nanos};
use crate::report::{Basis, Finding, FindingState, SiteSummary};

use super::inputs::Inputs;
use super::judge::Judge;
use super::options::CONFIRM_SECONDS;
use super::remembered::{Remembered, Standing};
use super::service;

/// Maximum number of findings that are remembered of one process.
const MOST: usize = 5;
/// Maximum frames of their stacks.
const MOST_FRAMES: usize = 8;
/// Requests of its route, without growth, that refute a finding.
const REFUTING: u64 = 200;
/// The memory is released when so much of what it kept is gone.
const RELEASED: f64 = 0.5;

impl Judge {
    /// Takes findings of an earlier observation of this process.
    pub fn remember(&mut self, earlier: Vec<Remembered>) {
        let standing = earlier.into_iter().take(MOST).map(|earlier| Standing {
            earlier,
            since: Nanos(0),
            windows: 0.0,
            requests: 0,
            confirmed: None,
        });
        self.standing = standing.collect();
    }

    /// The confirmed ones of `findings`, without what a later observation does not need.
    pub fn to_remember(&self, findings: &[Finding]) -> Vec<Remembered> {
        let confirmed = findings
            .iter()
            .filter(|finding| finding.state == FindingState::Confirmed);
        let anonymous_bytes = self.memory.last().rss_anon;
        confirmed
            .take(MOST)
            .map(|finding| Remembered {
                finding: stripped(finding),
                anonymous_bytes,
            })
            .collect()
    }

    /// A window of traced allocations begins, and its blocks are forgotten: what is confirmed stands.
    pub fn carry(&mut self, inputs: Inputs) {
        let seen: Vec<Finding> = self
            .seen(inputs)
            .into_iter()
            .filter(|one| one.basis == Basis::Blocks && one.state > FindingState::None)
            .collect();
        let anonymous_bytes = self.memory.last().rss_anon;
        let standing = |finding: &Finding, confirmed: Option<f64>| Standing {
            earlier: Remembered {
                finding: Finding {
                    state: FindingState::Confirmed,
                    ..stripped(finding)
                },
                anonymous_bytes,
            },
            since: inputs.now,
            windows: 0.0,
            requests: requests(inputs, finding),
            confirmed,
        };
        for one in &mut self.standing {
            let same = |found: &&Finding| service::same(found, &one.earlier.finding);
            match seen.iter().find(same) {
                Some(found) => *one = standing(found, one.confirmed),
                None => one.windows += window_seconds(inputs, one.since).unwrap_or(0.0),
            }
        }
        for found in seen
            .iter()
            .filter(|one| one.state == FindingState::Confirmed)
        {
            let mut known = self.standing.iter();
            if !known.any(|one| service::same(found, &one.earlier.finding)) {
                let after = found.confirmed_after_seconds.unwrap_or(0.0);
                self.standing.push(standing(found, Some(after)));
            }
        }
        self.standing.truncate(MOST);
    }

    /// Notes which of the findings that stand are seen to grow, and forgets those that are refuted.
    pub(super) fn review(&mut self, inputs: Inputs) {
        if self.standing.is_empty() {
            return;
        }
        let seen = self.seen(inputs);
        for one in &mut self.standing {
            if seen
                .iter()
                .any(|found| service::same(found, &one.earlier.finding))
            {
                one.since = inputs.now;
                one.windows = 0.0;
                one.requests = requests(inputs, &one.earlier.finding);
            }
        }
        self.standing.retain(|one| !one.is_refuted(inputs));
    }

    /// Forgets findings whose memory was released.
    pub fn release(&mut self, sample: &MemorySample) {
        self.standing.retain(|one| {
            let gone = one.earlier.anonymous_bytes.saturating_sub(sample.rss_anon);
            (gone as f64) < RELEASED * one.earlier.finding.retained_bytes.max(1) as f64
        });
    }

    /// Adds the findings that stand to those of this observation.
    pub(super) fn recall(&self, out: &mut Vec<Finding>) {
        for one in &self.standing {
            let earlier = &one.earlier.finding;
            if let Some(known) = out.iter_mut().find(|known| service::same(known, earlier)) {
                known.state = known.state.max(earlier.state);
                known
                    .confirmed_after_seconds
                    .get_or_insert(one.confirmed.unwrap_or(0.0));
            } else {
                out.push(one.finding());
            }
        }
    }
}

impl Standing {
    /// Whether there was enough time and traffic to see it grow again.
    fn is_refuted(&self, inputs: Inputs) -> bool {
        let requests = requests(inputs, &self.earlier.finding).saturating_sub(self.requests);
        let seconds = match window_seconds(inputs, self.since) {
            Some(seconds) => self.windows + seconds,
            None if inputs.signals.counts_containers() || inputs.heap_read => {
                inputs.now.since(self.since.max(inputs.start))
            }
            // Without allocations or objects nothing shows it at present.
            None => self.windows,
        };
        seconds >= CONFIRM_SECONDS && requests >= REFUTING
    }

    fn finding(&self) -> Finding {
        let when = if self.confirmed.is_some() {
            "in an earlier window of traced allocations"
        } else {
            "before heaptide was restarted"
        };
        Finding {
            growth_bytes_per_second: 0.0,
            time_to_oom_seconds: None,
            suspected_after_seconds: match self.confirmed {
                Some(_) => self.earlier.finding.suspected_after_seconds,
                None => Some(0.0),
            },
            confirmed_after_seconds: Some(self.confirmed.unwrap_or(0.0)),
            evidence: vec![format!(
                "confirmed {when}; it was not seen to grow since then, and its memory is still held"
            )],
            ..self.earlier.finding.clone()
        }
    }
}

/// Requests of the route of `finding` so far.
fn requests(inputs: Inputs, finding: &Finding) -> u64 {
    let routes = &inputs.attribution.routes;
    match routes
        .iter()
        .find(|(id, route)| id.has_requests() && route.name == finding.route)
    {
        Some((_, route)) => route.requests,
        // All routes, or none that is known yet.
        None => routes.iter().map(|(_, route)| route.requests).sum(),
    }
}

/// Seconds of this window later than `since`. `None`: allocations were not traced, or objects are counted all the time.
fn window_seconds(inputs: Inputs, since: Nanos) -> Option<f64> {
    let epochs = &inputs.growth.epochs;
    let only_blocks = inputs.growth.sees_blocks() && !inputs.signals.counts_containers();
    only_blocks.then(|| epochs.now().since(epochs.start(0).max(since)))
}

fn stripped(finding: &Finding) -> Finding {
    let short = |site: &SiteSummary| {
        let mut site = site.clone();
        site.stack.truncate(MOST_FRAMES);
        site
    };
    Finding {
        site: short(&finding.site),
        also: Vec::new(),
        evidence: Vec::new(),
        ..finding.clone()
    }
}
