//! What was found at the last look at the map of stacks: see [`super::tidy`].

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

/// Interval of pruning.
const EVERY: Duration = Duration::from_secs(10);

/// What was found at the last look.
pub(super) struct Stacks {
    due: Instant,
    /// Stacks that no block referred to.
    idle: FxHashSet<u64>,
}

impl Stacks {
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now() + EVERY,
            idle: FxHashSet::default(),
        }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Whether no block referred to a stack then.
    pub(super) fn was_idle(&self, site: u64) -> bool {
        self.idle.contains(&site)
    }

    /// No block refers to these now.
    pub(super) fn looked(&mut self, idle: FxHashSet<u64>) {
        self.due = Instant::now() + EVERY;
        self.idle = idle;
    }
}
