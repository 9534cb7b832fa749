//! Limits of work at the end of the program. After a request to end, the last report is still written. Reading
//! foreign files and waiting for others is allowed for a short time, and refused afterwards.
//!
//! Work is counted as CPU time, so that names are not missing from reports of a busy machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clocks;

/// CPU time that this process may still use.
const WORK: Duration = Duration::from_secs(1);
/// Time that it may still wait for others.
const WAITING: Duration = Duration::from_millis(750);

static PROGRAM: Ending = Ending::new();

/// Requests the end of the program.
pub fn ask() {
    PROGRAM.ask(clocks::own_cpu_time());
}

/// Whether the end was requested.
pub fn is_asked() -> bool {
    PROGRAM.is_asked()
}

/// Whether the remaining time is used up.
pub fn is_over() -> bool {
    PROGRAM.is_asked() && PROGRAM.is_over(clocks::own_cpu_time())
}

/// Counts time spent waiting.
pub fn waited(time: Duration) {
    PROGRAM.waited(time);
}

struct Ending {
    /// CPU time of this process at the request, in nanoseconds; 0: not requested.
    asked: AtomicU64,
    /// Nanoseconds waited since.
    waited: AtomicU64,
}

impl Ending {
    const fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        }
    }

    fn ask(&self, used: Duration) {
        let used = nanoseconds(used).max(1);
        // Only the first request counts: a repeated signal gives no more time.
        let _ = self
            .asked
            .compare_exchange(0, used, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    fn is_over(&self, used: Duration) -> bool {
        let worked = nanoseconds(used).saturating_sub(self.asked.load(Ordering::Relaxed));
        self.is_asked()
            && (worked > nanoseconds(WORK)
                || self.waited.load(Ordering::Relaxed) > nanoseconds(WAITING))
    }

    fn waited(&self, time: Duration) {
        if self.is_asked() {
            self.waited.fetch_add(nanoseconds(time), Ordering::Relaxed);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_waiting_have_their_limits_from_the_first_call_on() {
        let long = Duration::from_secs(60);
        let ending = Ending::new();
        ending.waited(long);
        assert!(!ending.is_asked() && !ending.is_over(long));

        ending.ask(long);
        ending.ask(long + WORK);
        assert!(ending.is_asked() && !ending.is_over(long + WORK));
        assert!(ending.is_over(long + 2 * WORK));

        ending.waited(WAITING);
        assert!(!ending.is_over(long));
        ending.waited(WAITING);
        assert!(ending.is_over(long));
    }
}
