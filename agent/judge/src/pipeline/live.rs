//! What the live view shows besides the report.

use crate::events::Nanos;
use crate::report::{Live, LiveSite};

use super::{Pipeline, RATE_SECONDS};

impl Pipeline {
    pub(super) fn live(&self, start: Nanos) -> Live {
        let second = self.now.0 / 1_000_000_000;
        let recent = self
            .recent
            .iter()
            .filter(|entry| entry.0 + RATE_SECONDS > second);
        let (requests, new) = recent.fold((0, 0), |sum, entry| (sum.0 + entry.1, sum.1 + entry.2));
        let seconds = self.now.since(start).clamp(1.0, RATE_SECONDS as f64);
        let points = self.judge.memory.points().iter();
        Live {
            curve: points
                .map(|p| (p.at.since(start), p.rss, p.mature))
                .collect(),
            requests_per_second: requests as f64 / seconds,
            new_tokens_per_second: new as f64 / seconds,
            top_sites: self
                .growth
                .top_sites()
                .iter()
                .map(|&(leading, bytes, blocks)| {
                    let (function, location) = self.attribution.sites.describe(leading);
                    LiveSite {
                        function,
                        location,
                        bytes: bytes as u64,
                        blocks: blocks as u64,
                    }
                })
                .collect(),
        }
    }
}
