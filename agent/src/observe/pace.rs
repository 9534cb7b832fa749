//! How often a process may be inspected again, and how many children of a service are followed at once: a process that
//! executes programs in a loop, or forks in one, must not delay the observation of others.

use std::time::{Duration, Instant};

/// Minimum time between two inspections of one process. It doubles while the process executes programs so often.
const LEAST: Duration = Duration::from_millis(500);
/// The same while the dynamic linker is still at work.
const EARLY: Duration = Duration::from_millis(30);
/// The maximum of both.
const MOST: Duration = Duration::from_secs(30);
/// A process that has run one program so long starts anew.
const SETTLED: Duration = Duration::from_secs(60);

/// Children that are followed at once after a fork, for each service.
const AT_ONCE: f64 = 32.0;
/// Further ones per second.
const PER_SECOND: f64 = 1.0;

/// The pace of inspections of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The last inspection, and the time until the next.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// Whether it may be inspected now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|(at, wait)| now.saturating_duration_since(at) >= wait)
    }

    /// It was inspected, because it had executed another program.
    pub(super) fn inspected(&mut self, now: Instant) {
        self.wait(now, LEAST);
    }

    /// It was inspected too early: its program is not complete yet.
    pub(super) fn too_early(&mut self, now: Instant) {
        self.wait(now, EARLY);
    }

    fn wait(&mut self, now: Instant, least: Duration) {
        let recent = self
            .last
            .filter(|(at, _)| now.saturating_duration_since(*at) < SETTLED);
        let wait = recent.map_or(least, |(_, wait)| (wait * 2).clamp(least, MOST));
        self.last = Some((now, wait));
    }
}

/// Children of a service that may be followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            at: now,
        }
    }

    /// Takes one child; false if too many were followed lately.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + PER_SECOND * passed).min(AT_ONCE);
        self.at = now;
        let is_allowed = self.left >= 1.0;
        if is_allowed {
            self.left -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_executes_in_a_loop_is_inspected_less_and_less() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut inspections = 0;
        for tick in 0..60_000 {
            let now = start + Duration::from_millis(tick);
            if pace.allows(now) {
                pace.inspected(now);
                inspections += 1;
            }
        }
        assert_eq!(
            inspections, 7,
            "after 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s"
        );
        assert!(pace.allows(start + Duration::from_secs(600)));
    }

    #[test]
    fn a_burst_of_children_is_followed_and_an_endless_one_is_not() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let taken = (0..100).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, AT_ONCE as usize);
        let second = start + Duration::from_secs(3);
        let taken = (0..100).filter(|_| allowance.take(second)).count();
        assert_eq!(taken, 3);
    }
}
