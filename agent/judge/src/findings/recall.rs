//! Confirmed findings of an earlier observation of the same process. They stand until the memory is released, or until
//! enough traffic shows that nothing grows any more. So a restart of heaptide does not resolve an alert.

use crate::events::MemorySample;
use crate::report::{Finding, FindingState, SiteSummary};

use super::inputs::Inputs;
use super::judge::Judge;
use super::options::CONFIRM_SECONDS;
use super::remembered::Remembered;
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
        self.remembered = earlier;
        self.remembered.truncate(MOST);
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

    /// Forgets findings whose memory was released.
    pub fn release(&mut self, sample: &MemorySample) {
        self.remembered.retain(|one| {
            let gone = one.anonymous_bytes.saturating_sub(sample.rss_anon);
            (gone as f64) < RELEASED * one.finding.retained_bytes.max(1) as f64
        });
    }

    /// Adds the remembered findings that stand to those of this observation.
    pub(super) fn recall(&self, inputs: Inputs, out: &mut Vec<Finding>) {
        for one in &self.remembered {
            let earlier = &one.finding;
            if let Some(known) = out.iter_mut().find(|known| service::same(known, earlier)) {
                known.state = known.state.max(earlier.state);
                known.confirmed_after_seconds.get_or_insert(0.0);
            } else if !is_refuted(inputs, earlier) {
                out.push(standing(earlier));
            }
        }
    }
}

/// Whether there was enough time and traffic to see it grow again.
fn is_refuted(inputs: Inputs, finding: &Finding) -> bool {
    let routes = &inputs.attribution.routes;
    let requests = match routes
        .iter()
        .find(|(id, route)| id.has_requests() && route.name == finding.route)
    {
        Some((_, route)) => route.requests,
        // All routes, or none that is known yet.
        None => routes.iter().map(|(_, route)| route.requests).sum(),
    };
    // Without allocations or objects nothing would have shown the growth.
    let was_looked_at =
        inputs.growth.sees_blocks() || inputs.signals.counts_containers() || inputs.heap_read;
    was_looked_at && inputs.now.since(inputs.start) >= CONFIRM_SECONDS && requests >= REFUTING
}

fn standing(earlier: &Finding) -> Finding {
    Finding {
        growth_bytes_per_second: 0.0,
        time_to_oom_seconds: None,
        suspected_after_seconds: Some(0.0),
        confirmed_after_seconds: Some(0.0),
        evidence: vec![
            "confirmed before heaptide was restarted; it does not grow at present, and its memory is still held"
                .to_owned(),
        ],
        ..earlier.clone()
    }
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
