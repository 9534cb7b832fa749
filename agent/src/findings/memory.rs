//! Memory of the process over time: limit, use at any time, and the curve for the live view.

use crate::events::{MemorySample, Nanos};

/// Points of the curve at most.
const MOST_POINTS: usize = 240;

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
}

/// What is known of the process's memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryHistory {
    first: Option<MemorySample>,
    last: Option<MemorySample>,
    peak_rss: u64,
    points: Vec<Point>,
    /// Every so many samples is kept.
    stride: u64,
    samples: u64,
}

impl MemoryHistory {
    /// Takes a sample.
    pub fn observe(&mut self, sample: &MemorySample, mature: f64) {
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

    /// The limit that holds: the smaller of what was found and what the user said.
    pub fn limit(&self, option: Option<u64>) -> Option<u64> {
        match (self.last.and_then(|sample| sample.limit), option) {
            (Some(found), Some(said)) => Some(found.min(said)),
            (found, said) => found.or(said),
        }
    }

    /// Bytes used of the limit at time `at`: the last point that is not later, else the first.
    pub fn used_at(&self, at: Nanos) -> u64 {
        let later = self.points.partition_point(|point| point.at <= at);
        let point = self.points.get(later.saturating_sub(1));
        point.map_or(self.last().used, |point| point.used)
    }

    /// The curve.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}
