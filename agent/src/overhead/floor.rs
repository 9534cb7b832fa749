//! Whether the memory floor of a process rises, for mode `auto`.
//!
//! The floor of an interval is its minimum memory. So memory that is freed within seconds (requests in
//! progress, a collector's sawtooth) does not count.

use heaptide_judge::events::Nanos;

/// Length of an interval in seconds.
const STRETCH: f64 = 5.0;
/// Consecutive rises, each of at least [`STEP`], that count as growth.
const ROW: usize = 3;
/// Eight pages: a smaller rise is a thread's stack or a table that doubles.
const STEP: u64 = 32 << 10;
/// For slow leaks: rise above the lowest floor since the start, and also a fraction of it, because the
/// memory of a large process always fluctuates.
const ABOVE: u64 = 1 << 20;
const ABOVE_PART: u64 = 100;

/// Floors of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// Start of the current interval, and its minimum so far.
    current: Option<(Nanos, u64)>,
    /// Floor of the last complete interval.
    last: Option<u64>,
    /// Consecutive rises.
    row: usize,
    /// Lowest floor since the start.
    lowest: Option<u64>,
}

impl Floor {
    /// Takes a memory sample.
    pub(super) fn observe(&mut self, at: Nanos, bytes: u64) {
        let Some((began, least)) = &mut self.current else {
            self.current = Some((at, bytes));
            return;
        };
        *least = (*least).min(bytes);
        if at.since(*began) < STRETCH {
            return;
        }
        let floor = *least;
        self.current = Some((at, bytes));
        if let Some(last) = self.last {
            self.row = if floor >= last + STEP {
                self.row + 1
            } else {
                0
            };
        }
        self.last = Some(floor);
        self.lowest = Some(self.lowest.map_or(floor, |lowest| lowest.min(floor)));
    }

    /// Whether the floor rises.
    pub(super) fn rises(&self) -> bool {
        let risen = self
            .last
            .zip(self.lowest)
            .is_some_and(|(last, lowest)| last - lowest >= ABOVE.max(lowest / ABOVE_PART));
        self.row >= ROW || risen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which the floor rises, for memory as a function of the second.
    fn rises_at(seconds: u32, memory: impl Fn(u32) -> u64) -> Option<u32> {
        let mut floor = Floor::default();
        (0..seconds).find(|second| {
            floor.observe(Nanos::from_seconds(f64::from(*second)), memory(*second));
            floor.rises()
        })
    }

    #[test]
    fn a_leak_is_seen_within_seconds() {
        // 50 new tokens a second, 640 bytes each
        let at = rises_at(60, |second| (20 << 20) + u64::from(second) * 32_000);
        assert!(at.is_some_and(|at| at <= 21), "{at:?}");
    }

    #[test]
    fn a_slow_leak_is_seen_when_it_has_come_to_something() {
        let at = rises_at(4000, |second| (20 << 20) + u64::from(second) * 640);
        assert!(at.is_some_and(|at| at < 1700), "{at:?}");
    }

    #[test]
    fn what_is_given_back_is_no_rise() {
        let sawtooth = |second: u32| (20 << 20) + u64::from(second % 4) * (3 << 20);
        assert_eq!(rises_at(600, sawtooth), None);
        let still = |second: u32| (20 << 20) + u64::from(second % 7) * 4096;
        assert_eq!(rises_at(600, still), None);
        // filling a pool once is smaller than a leak
        let once = |second: u32| (20 << 20) + if second > 30 { 512 << 10 } else { 0 };
        assert_eq!(rises_at(600, once), None);
        let falling = |second: u32| (90 << 20) - u64::from(second) * 4096;
        assert_eq!(rises_at(600, falling), None);
    }
}
