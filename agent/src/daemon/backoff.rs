//! Exponential backoff of retries. Pure: time is an input.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Delay before the second attempt.
const FIRST: Duration = Duration::from_secs(2);
/// Maximum delay.
const LONGEST: Duration = Duration::from_secs(300);

/// Recent failures, by key.
#[derive(Clone, Debug)]
pub(super) struct Backoff<K> {
    failed: BTreeMap<K, Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    due: Instant,
}

impl<K: Ord> Backoff<K> {
    pub(super) fn new() -> Self {
        Self {
            failed: BTreeMap::new(),
        }
    }

    /// Whether it may be tried now.
    pub(super) fn is_due(&self, key: &K, now: Instant) -> bool {
        self.failed.get(key).is_none_or(|failed| now >= failed.due)
    }

    /// It failed (again); returns the delay.
    pub(super) fn failed(&mut self, key: K, now: Instant) -> Duration {
        let failed = self
            .failed
            .entry(key)
            .or_insert(Failed { times: 0, due: now });
        let wait = FIRST.saturating_mul(1 << failed.times.min(16)).min(LONGEST);
        failed.times += 1;
        failed.due = now + wait;
        wait
    }

    /// It succeeded.
    pub(super) fn worked(&mut self, key: &K) {
        self.failed.remove(key);
    }

    /// Drops all keys but those that `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.failed.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_not_for_ever() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        assert!(backoff.is_due(&1, now));
        let waits: Vec<u64> = (0..10).map(|_| backoff.failed(1, now).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!backoff.is_due(&1, now + Duration::from_secs(299)));
        assert!(backoff.is_due(&1, now + LONGEST));
        assert!(backoff.is_due(&2, now), "each key for itself");
        backoff.worked(&1);
        assert!(backoff.is_due(&1, now));
        backoff.failed(3, now);
        backoff.retain(|key| *key != 3);
        assert!(backoff.is_due(&3, now));
        for _ in 0..100 {
            backoff.failed(1, now);
        }
        assert_eq!(backoff.failed(1, now), LONGEST);
    }
}
