//! What grows the process without being a leak and shows in no series: memory of requests under
//! way, and memory that was freed but kept by the allocator.

use crate::report::{Cause, Finding, SiteSummary};

use super::inputs::Inputs;
use super::judge::Judge;
use super::places::{blank, unknown_site};
use super::units::bytes;

/// Bytes below which neither is worth mentioning.
const WORTH_MENTIONING: f64 = 1024.0 * 1024.0;

impl Judge {
    /// Findings with state `none` that concern the process, not a series.
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
                "up to {} of requests under way or just ended, {} now; it goes when they end",
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
                "live memory fell by {} from its peak, RSS stayed {} above its start: freed, but kept by the \
                 allocator",
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
