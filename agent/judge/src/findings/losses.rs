//! Losses: the lost part of the evidence, and the health part of the report.

use crate::events::Losses;
use crate::report::Health;

/// Lost parts, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lost {
    /// Of blocks: free missed, refused by a full map (they or their stacks), or return missed.
    pub blocks: f64,
    /// Of requests: records lost.
    pub requests: f64,
}

impl Lost {
    /// From the totals since the attach.
    pub fn new(losses: &Losses) -> Self {
        let sum = |parts: &[u64]| {
            parts
                .iter()
                .fold(0u64, |sum, part| sum.saturating_add(*part))
        };
        let refused = [
            losses.map_full,
            losses.missed_returns,
            losses.inflight_full,
            losses.threads_full,
        ];
        let refused = sum(&refused);
        let requests = sum(&[losses.requests_lost, losses.ring_full]);
        Self {
            blocks: part(
                sum(&[losses.lost_frees, losses.stacks_full, refused]),
                sum(&[losses.tracked, refused]),
            ),
            requests: part(requests, sum(&[losses.requests, losses.requests_lost])),
        }
    }

    /// The larger part.
    pub fn worst(self) -> f64 {
        self.blocks.max(self.requests)
    }
}

/// The health part of the report.
pub fn health(losses: &Losses, cpu_seconds: f64) -> Health {
    Health {
        dropped_events: losses.ring_full.saturating_add(losses.requests_lost),
        missed_returns: losses.missed_returns,
        unknown_frees: losses.unknown_frees,
        lost_frees: losses.lost_frees,
        map_full: losses.map_full,
        stacks_full: losses.stacks_full,
        stacks_truncated: losses.stacks_truncated,
        sampled_out: losses.sampled_out,
        probe_hits: losses.alloc_hits + losses.free_hits + losses.syscalls,
        probe_seconds: losses.probe_seconds,
        overhead_ratio: if cpu_seconds > 0.0 {
            losses.probe_seconds / cpu_seconds
        } else {
            0.0
        },
        agent_rss_bytes: losses.agent_rss,
        agent_cpu_seconds: losses.agent_cpu_seconds,
        map_bytes: losses.map_bytes,
    }
}

fn part(missing: u64, all: u64) -> f64 {
    if missing == 0 {
        0.0
    } else {
        (missing as f64 / all.max(1) as f64).min(1.0)
    }
}
