//! Levels of a collector's heap. The result of one collection depends on the requests in flight, so a level
//! is the mean over two seconds. A reading comes some time after its collection. If the collector does not
//! record that time, it is estimated from the bytes allocated since and the allocation rate.

use crate::events::{HeapMark, Nanos};

/// Seconds over which collections are averaged.
const SECONDS: f64 = 2.0;

/// The collections since the last level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// The last reading, with or without a new collection.
    last: Option<HeapMark>,
    /// Bytes allocated per second.
    rate: Option<f64>,
    /// Time of the last level.
    begun: Nanos,
    count: f64,
    /// Sums of the seconds since the last level, and of the reachable bytes.
    seconds: f64,
    bytes: f64,
    low: f64,
    high: f64,
}

/// A level from several collections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanMark {
    /// Their mean time.
    pub at: Nanos,
    /// Mean bytes.
    pub mean: f64,
    /// Minimum bytes.
    pub low: f64,
    /// Maximum bytes.
    pub high: f64,
}

impl Marks {
    /// Adds a new collection. Returns a level when [`SECONDS`] have passed.
    pub fn take(&mut self, mark: &HeapMark) -> Option<MeanMark> {
        let last = self.last.replace(*mark);
        // Before the first collection there is no result.
        if mark.cycles == 0 {
            return None;
        }
        if let Some(last) = last.filter(|last| last.cycles >= mark.cycles) {
            let allocated = mark.live_bytes.saturating_sub(last.live_bytes) as f64;
            let rate = allocated / mark.at.since(last.at).max(0.1);
            self.rate = Some(self.rate.map_or(rate, |known| f64::midpoint(known, rate)));
            return None;
        }
        let at = mark.collected_at.unwrap_or_else(|| {
            let ago = self.ago(mark, last);
            Nanos(mark.at.0.saturating_sub((ago * 1e9) as u64))
        });
        let bytes = mark.marked_bytes as f64;
        let first = self.begun == Nanos(0);
        if first {
            self.begun = at;
        }
        (self.low, self.high) = if self.count < 1.0 {
            (bytes, bytes)
        } else {
            (self.low.min(bytes), self.high.max(bytes))
        };
        self.count += 1.0;
        self.seconds += at.since(self.begun);
        self.bytes += bytes;
        if !first && at.since(self.begun) < SECONDS {
            return None;
        }
        let level = MeanMark {
            at: self.begun.plus(self.seconds / self.count),
            mean: self.bytes / self.count,
            low: self.low,
            high: self.high,
        };
        *self = Self {
            last: self.last,
            rate: self.rate,
            begun: at,
            ..Self::default()
        };
        Some(level)
    }

    /// Seconds from the collection to the reading, at most since the previous reading.
    fn ago(&self, mark: &HeapMark, last: Option<HeapMark>) -> f64 {
        let (Some(rate), Some(last)) = (self.rate.filter(|rate| *rate > 0.0), last) else {
            return 0.0;
        };
        let allocated = mark.live_bytes.saturating_sub(mark.marked_bytes) as f64;
        (allocated / rate).min(mark.at.since(last.at))
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
            collected_at: None,
        }
    }

    #[test]
    fn collections_of_two_seconds_are_one_level() {
        let mut marks = Marks::default();
        let first = marks.take(&mark(1_000, 7, 100)).unwrap();
        assert_eq!((first.at, first.mean as u64), (Nanos(1_000_000_000), 100));
        assert_eq!(
            marks.take(&mark(1_500, 7, 900)),
            None,
            "the same collection"
        );
        assert_eq!(marks.take(&mark(2_000, 8, 300)), None);
        let level = marks.take(&mark(3_000, 9, 200)).unwrap();
        assert_eq!(level.at, Nanos(2_500_000_000));
        let bytes = (level.mean as u64, level.low as u64, level.high as u64);
        assert_eq!(bytes, (250, 200, 300));
        // A collection after a long time is a level by itself.
        let level = marks.take(&mark(9_000, 10, 400)).unwrap();
        assert_eq!((level.at, level.mean as u64), (Nanos(9_000_000_000), 400));
    }

    #[test]
    fn a_collection_is_placed_when_it_was() {
        let reading = |second: u64, cycles: u64, marked: u64, live: u64| HeapMark {
            at: Nanos(second * 1_000_000_000),
            marked_bytes: marked,
            live_bytes: live,
            cycles,
            collected_at: None,
        };
        let mut marks = Marks::default();
        assert_eq!(marks.take(&reading(1, 0, 0, 50_000)), None, "none yet");
        assert!(marks.take(&reading(2, 1, 1_000, 2_000)).is_some());
        // 10,000 bytes a second.
        assert_eq!(marks.take(&reading(3, 1, 1_000, 12_000)), None);
        assert_eq!(marks.take(&reading(4, 1, 1_000, 22_000)), None);
        // 2,500 bytes after the collection.
        let level = marks.take(&reading(5, 2, 1_500, 4_000)).unwrap();
        assert_eq!(level.mean as u64, 1_500);
        assert!((level.at.seconds() - 4.75).abs() < 1e-6);
        // The collector records the time.
        let said = HeapMark {
            collected_at: Some(Nanos(8_100_000_000)),
            ..reading(9, 3, 1_800, 9_000)
        };
        assert_eq!(marks.take(&said).unwrap().at, Nanos(8_100_000_000));
    }
}
