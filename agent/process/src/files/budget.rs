//! Budget for walks over foreign tables: bytes, which are refilled over time, and a deadline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::caps;
use crate::ending;

/// The budget that the files of one process share.
#[derive(Debug)]
pub struct Budget {
    left: Mutex<(u64, Instant)>,
    deadline: Mutex<Option<Instant>>,
}

impl Budget {
    /// [`caps::WALKED`] bytes.
    pub fn full() -> Arc<Self> {
        Self::new(None)
    }

    /// The same with a deadline.
    pub fn until(deadline: Instant) -> Arc<Self> {
        Self::new(Some(deadline))
    }

    fn new(deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new((caps::WALKED, Instant::now())),
            deadline: Mutex::new(deadline),
        })
    }

    /// Replaces the deadline, for later work on the same files.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *lock(&self.deadline) = deadline;
    }

    /// Takes bytes; false if too few are left, the deadline has passed, or the program ends.
    pub fn take(&self, bytes: u64) -> bool {
        let now = Instant::now();
        // The end of the program does not wait for a large table.
        if ending::is_over() || lock(&self.deadline).is_some_and(|deadline| now >= deadline) {
            return false;
        }
        let mut left = lock(&self.left);
        let passed = now.saturating_duration_since(left.1).as_secs_f64();
        let refilled = left.0.saturating_add((passed * caps::REFILL as f64) as u64);
        *left = (refilled.min(caps::WALKED), now);
        match left.0.checked_sub(bytes) {
            Some(rest) => {
                left.0 = rest;
                true
            }
            None => false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_ends() {
        let budget = Budget::full();
        assert!(budget.take(caps::WALKED - 10));
        assert!(!budget.take(caps::WALKED / 2));
        assert!(!budget.take(u64::MAX));
        let late = Budget::until(Instant::now());
        assert!(!late.take(1));
        late.set_deadline(None);
        assert!(late.take(1));
        assert!(Budget::until(Instant::now() + Duration::from_secs(60)).take(1));
    }
}
