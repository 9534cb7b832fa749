//! Epochs: the time axis of all cohorts. Recent epochs are short, older ones are merged.

use crate::events::Nanos;

/// Maximum number of epochs. Each takes 96 bytes per series.
pub const MOST_EPOCHS: usize = 36;
/// The newest epochs are never merged.
const FINE: usize = 12;

/// Successive epochs; epoch `i` is `(bounds[i], bounds[i + 1]]`.
#[derive(Clone, Debug)]
pub struct Epochs {
    bounds: Vec<Nanos>,
}

impl Epochs {
    /// No epoch yet; the first begins at `start`.
    pub fn new(start: Nanos) -> Self {
        Self {
            bounds: vec![start],
        }
    }

    /// Ends an epoch at `at`. Returns `false` if `at` is not later than the last end.
    pub fn push(&mut self, at: Nanos) -> bool {
        let later = self.bounds.last().is_none_or(|last| at > *last);
        if later {
            self.bounds.push(at);
        }
        later
    }

    /// Number of epochs.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whether there is no epoch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When epoch `i` begins; beyond the last: its end.
    pub fn start(&self, i: usize) -> Nanos {
        self.bounds[i.min(self.bounds.len() - 1)]
    }

    /// When epoch `i` ends.
    pub fn end(&self, i: usize) -> Nanos {
        self.start(i + 1)
    }

    /// The end of the newest epoch.
    pub fn now(&self) -> Nanos {
        self.start(usize::MAX)
    }

    /// Seconds of epoch `i`.
    pub fn seconds(&self, i: usize) -> f64 {
        self.end(i).since(self.start(i))
    }

    /// The epoch that contains `at`. `None`: `at` is after the last one. A time before the first epoch belongs to the
    /// first.
    pub fn of(&self, at: Nanos) -> Option<usize> {
        let end = self.bounds.partition_point(|bound| *bound < at);
        (end < self.bounds.len()).then(|| end.saturating_sub(1))
    }

    /// If there are too many epochs, merges the pair that is shortest relative to its age. Returns the
    /// epoch that absorbed its successor.
    pub fn merge_if_full(&mut self) -> Option<usize> {
        if self.len() <= MOST_EPOCHS {
            return None;
        }
        let now = self.now();
        let cost = |i: &usize| {
            let width = self.end(i + 1).since(self.start(*i));
            width / now.since(self.start(*i)).max(1e-9)
        };
        let at = (0..self.len() - FINE - 1).min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        self.bounds.remove(at + 1);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_epochs_are_merged_and_young_ones_stay_fine() {
        let mut epochs = Epochs::new(Nanos(0));
        for n in 1..=5_000u64 {
            assert!(epochs.push(Nanos(n * 1_000_000_000)));
            epochs.merge_if_full();
            assert!(epochs.len() <= MOST_EPOCHS);
        }
        assert!(!epochs.push(Nanos(5_000_000_000_000)));
        for i in epochs.len() - FINE..epochs.len() {
            assert!((epochs.seconds(i) - 1.0).abs() < 1e-9);
        }
        for i in 0..epochs.len() - 1 {
            let age = epochs.now().since(epochs.start(i));
            assert!(
                epochs.seconds(i) <= 0.5 * age + 1.0,
                "epoch {i} is too coarse for its age"
            );
        }
        assert_eq!(epochs.of(Nanos(0)), Some(0));
        assert_eq!(epochs.of(epochs.now()), Some(epochs.len() - 1));
        assert_eq!(epochs.of(Nanos(epochs.now().0 + 1)), None);
    }
}
