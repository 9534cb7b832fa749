//! Levels of a collector's heap: what one collection finds depends on what was just under way, so a level is
//! the mean of those of two seconds.

use crate::attribution::plus;
use crate::events::{HeapMark, Nanos};

/// Seconds over which collections are put together.
const SECONDS: f64 = 2.0;

/// The collections since the last level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    cycles: Option<u64>,
    /// Time of the last level.
    begun: Nanos,
    count: f64,
    /// Sum of the seconds since the last level, and of what was found.
    seconds: f64,
    bytes: f64,
    low: f64,
    high: f64,
}

/// A level made of some collections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanMark {
    /// Their mean time.
    pub at: Nanos,
    /// Mean bytes.
    pub mean: f64,
    /// Least bytes.
    pub low: f64,
    /// Most bytes.
    pub high: f64,
}

impl Marks {
    /// Adds a collection that was not seen yet; a level, when it is time for one.
    pub fn take(&mut self, mark: &HeapMark) -> Option<MeanMark> {
        if self.cycles.is_some_and(|cycles| mark.cycles <= cycles) {
            return None;
        }
        let bytes = mark.marked_bytes as f64;
        if self.cycles.is_none() {
            self.begun = mark.at;
        }
        self.cycles = Some(mark.cycles);
        (self.low, self.high) = if self.count < 1.0 {
            (bytes, bytes)
        } else {
            (self.low.min(bytes), self.high.max(bytes))
        };
        self.count += 1.0;
        self.seconds += mark.at.since(self.begun);
        self.bytes += bytes;
        if mark.at.since(self.begun) < SECONDS {
            return None;
        }
        let level = MeanMark {
            at: plus(self.begun, self.seconds / self.count),
            mean: self.bytes / self.count,
            low: self.low,
            high: self.high,
        };
        *self = Self {
            cycles: self.cycles,
            begun: mark.at,
            ..Self::default()
        };
        Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(millis: u64, cycles: u64, bytes: u64) -> HeapMark {
        HeapMark {
            at: Nanos(millis * 1_000_000),
            marked_bytes: bytes,
            live_bytes: bytes,
            cycles,
        }
    }

    #[test]
    fn collections_of_two_seconds_are_one_level() {
        let mut marks = Marks::default();
        assert_eq!(marks.take(&mark(1_000, 7, 100)), None);
        assert_eq!(
            marks.take(&mark(1_500, 7, 900)),
            None,
            "the same collection"
        );
        assert_eq!(marks.take(&mark(2_000, 8, 300)), None);
        let level = marks.take(&mark(3_000, 9, 200)).unwrap();
        assert_eq!(level.at, Nanos(2_000_000_000));
        assert_eq!(
            (level.mean as u64, level.low as u64, level.high as u64),
            (200, 100, 300)
        );
        // one that runs seldom is a level by itself
        let level = marks.take(&mark(9_000, 10, 400)).unwrap();
        assert_eq!((level.at, level.mean as u64), (Nanos(9_000_000_000), 400));
    }
}
