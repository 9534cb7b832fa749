//! Memory of the process over time: limit, usage, and the curve for the live view.

use crate::events::{LimitScope, MemorySample, Nanos};

/// Maximum number of points.
const MOST_POINTS: usize = 240;
/// Growth of the heap, relative to the first usage, from which its overhead is measured.
const LEAST_GROWTH: f64 = 0.02;
/// Assumed overhead until then: headers of 8 bytes and rounding to 16.
const USUAL_OVERHEAD: f64 = 1.06;
/// Maximum overhead. A larger ratio comes from other memory that grew.
const MOST_OVERHEAD: f64 = 1.15;

/// One point of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Nanos,
    /// Resident bytes.
    pub rss: u64,
    /// Bytes used of the limit.
    pub used: u64,
    /// Mature live bytes.
    pub mature: u64,
    /// Live heap bytes.
    pub live: u64,
}

/// History of the process's memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryHistory {
    first: Option<MemorySample>,
    last: Option<MemorySample>,
    peak_rss: u64,
    points: Vec<Point>,
    /// One of this many samples is kept.
    stride: u64,
    samples: u64,
}

impl MemoryHistory {
    /// Takes a sample.
    pub fn observe(&mut self, sample: &MemorySample, mature: f64, live: f64) {
        self.first.get_or_insert(*sample);
        self.last = Some(*sample);
        self.peak_rss = self.peak_rss.max(sample.rss);
        self.stride = self.stride.max(1);
        if self.samples.is_multiple_of(self.stride) {
            let mature = mature as u64;
            self.points.push(Point {
                at: sample.at,
                rss: sample.rss,
                used: sample.used,
                mature,
                live: live as u64,
            });
        }
        self.samples += 1;
        if self.points.len() >= MOST_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
    }

    /// The first sample.
    pub fn first(&self) -> MemorySample {
        self.first.unwrap_or_default()
    }

    /// The last sample.
    pub fn last(&self) -> MemorySample {
        self.last.unwrap_or_default()
    }

    /// Highest resident bytes of any sample.
    pub fn peak_rss(&self) -> u64 {
        self.peak_rss
    }

    /// The limit: the smaller of the detected one and the user's.
    pub fn limit(&self, option: Option<u64>) -> Option<u64> {
        match (self.last.and_then(|sample| sample.limit), option) {
            (Some(found), Some(said)) => Some(found.min(said)),
            (found, said) => found.or(said),
        }
    }

    /// What [`Self::limit`] applies to.
    pub fn scope(&self, option: Option<u64>) -> LimitScope {
        let found = self.last.and_then(|sample| sample.limit);
        match (self.last, option) {
            (Some(sample), None) => sample.scope,
            (Some(sample), Some(said)) if found.is_some_and(|found| found <= said) => sample.scope,
            _ => LimitScope::Process,
        }
    }

    /// Bytes used of the limit at `at`: the minimum since the last point before it. A minimum, because
    /// requests in flight at that time would make the headroom seem small.
    pub fn used_at(&self, at: Nanos) -> u64 {
        let later = self.points.partition_point(|point| point.at <= at);
        let since = self.points.get(later.saturating_sub(1)..).unwrap_or(&[]);
        let least = since.iter().map(|point| point.used).min();
        least.unwrap_or(self.last().used)
    }

    /// Resident bytes per live heap byte, from their growth since the start. At least 1, at most
    /// [`MOST_OVERHEAD`].
    pub fn overhead(&self) -> f64 {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return 1.0;
        };
        let resident = last.used as f64 - first.used as f64;
        let heap = last.live as f64 - first.live as f64;
        // With less growth the rest of the process's memory dominates.
        if heap < LEAST_GROWTH * first.used as f64 {
            return USUAL_OVERHEAD;
        }
        (resident / heap).clamp(1.0, MOST_OVERHEAD)
    }

    /// The curve.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}
