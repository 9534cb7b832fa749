//! Growth of the process that is not a leak and is in no series: memory of requests in flight, and freed
//! memory that the allocator keeps.

use crate::report::{Cause, Finding, SiteSummary};

use super::inputs::Inputs;
use super::judge::Judge;
use super::places::{blank, unknown_site};
use super::units::bytes;

/// Minimum size of such a finding, bytes.
const WORTH_MENTIONING: f64 = 1024.0 * 1024.0;

impl Judge {
    /// Findings with state `none` that concern the process as a whole.
    pub fn benign(&self, inputs: Inputs) -> Vec<Finding> {
        let mut out = Vec::new();
        out.extend(Self::working_set(inputs));
        out.extend(self.allocator_retention(inputs));
        out
    }

    fn working_set(inputs: Inputs) -> Option<Finding> {
        let most = inputs
            .growth
            .immature()
            .iter()
            .max_by(|a, b| a.peak.total_cmp(&b.peak))?;
        let mature = inputs
            .growth
            .get(&most.key)
            .map_or(0.0, crate::growth::series::Series::live_bytes);
        if most.peak < WORTH_MENTIONING || most.peak < 4.0 * mature {
            return None;
        }
        Some(Finding {
            retained_bytes: 0,
            route: inputs.attribution.routes.get(most.key.route).name.clone(),
            evidence: vec![format!(
                "requests in flight or just ended held up to {}, {} now; they free it when they end",
                bytes(most.peak),
                bytes(most.bytes)
            )],
            ..blank(Cause::WorkingSet, unknown_site())
        })
    }

    fn allocator_retention(&self, inputs: Inputs) -> Option<Finding> {
        let totals = inputs.growth.totals;
        let fell = totals.peak_live_bytes - totals.live_bytes;
        let (first, last) = (self.memory.first(), self.memory.last());
        let grew = last.rss.saturating_sub(first.rss) as f64;
        let stays = last.rss as f64 >= 0.9 * self.memory.peak_rss() as f64;
        if fell < 4.0 * WORTH_MENTIONING
            || fell < 0.5 * totals.peak_live_bytes
            || !stays
            || grew < 0.5 * fell
        {
            return None;
        }
        Some(Finding {
            route: "(process)".to_owned(),
            evidence: vec![format!(
                "live memory fell by {} from its peak, but RSS stayed {} above its start: the allocator keeps \
                 freed memory",
                bytes(fell),
                bytes(grew)
            )],
            ..blank(
                Cause::AllocatorRetention,
                SiteSummary {
                    function: "(allocator)".to_owned(),
                    ..unknown_site()
                },
            )
        })
    }
}
