//! Whether the floor of a process's memory rises: what mode `auto` waits for before it probes allocators.
//!
//! The floor of a stretch of time is the least memory in it, so what is taken and given back within
//! seconds (requests under way, a collector's sawtooth) is no rise.

use heaptide_judge::events::Nanos;

/// Seconds of one stretch.
const STRETCH: f64 = 5.0;
/// So many rises in a row, each at least [`STEP`], are a rise.
const ROW: usize = 3;
/// Bytes: eight pages, less is a thread's stack or a table that doubles.
const STEP: u64 = 32 << 10;
/// A slow leak: the floor is so much above the lowest one since the watch began, whatever the steps
/// were. Also a part of the whole, because the memory of a large process is never still.
const ABOVE: u64 = 1 << 20;
const ABOVE_PART: u64 = 100;

/// Floors of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// The stretch under way: when it began, its least memory so far.
    current: Option<(Nanos, u64)>,
    /// The last complete one.
    last: Option<u64>,
    /// Rises in a row.
    row: usize,
    /// Lowest floor since the watch began.
    lowest: Option<u64>,
}

impl Floor {
    /// Takes the memory at one time.
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

    /// The floor rises.
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

    /// The second at which the floor rises, for memory that is a function of the second.
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
        // a pool that is filled once is less than a leak
        let once = |second: u32| (20 << 20) + if second > 30 { 512 << 10 } else { 0 };
        assert_eq!(rises_at(600, once), None);
        let falling = |second: u32| (90 << 20) - u64::from(second) * 4096;
        assert_eq!(rises_at(600, falling), None);
    }
}
