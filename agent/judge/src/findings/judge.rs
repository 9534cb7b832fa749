//! The state of the judge of one process: what is remembered between snapshots and readings, and the budgets.

use std::collections::BTreeMap;

use crate::events::{Losses, Nanos};
use crate::growth::{Growth, SeriesKey};
use crate::report::FindingState;

use super::judged::Judged;
use super::losses::Lost;
use super::memory::MemoryHistory;
use super::options::{self, CONFIRM_AGES, CONFIRM_PART, CONFIRM_SECONDS, JudgeOptions, LOSS_ANY};
use super::plateaus::Plateaus;
use super::residency::Residents;
use super::signals::judge::SignalJudge;
use super::tables::TableJudge;
use super::tracker::Tracker;
use super::window::Window;

/// The judge of one target.
pub struct Judge {
    /// Settings.
    pub options: JudgeOptions,
    /// Memory of the process.
    pub memory: MemoryHistory,
    /// The last totals of losses.
    pub losses: Losses,
    /// Tokens found in memory.
    pub residents: Residents,
    /// What functions kept when they were full.
    pub plateaus: Plateaus,
    /// What was judged of tables.
    pub(super) tables: TableJudge,
    /// What is judged without allocator probes.
    pub signals: SignalJudge,
    pub(super) trackers: BTreeMap<SeriesKey, Tracker<Window>>,
    pub(super) judged: BTreeMap<SeriesKey, Judged>,
}

impl Judge {
    /// Nothing seen yet.
    pub fn new(options: JudgeOptions) -> Self {
        Self {
            options,
            memory: MemoryHistory::default(),
            losses: Losses::default(),
            residents: Residents::default(),
            plateaus: Plateaus::default(),
            tables: TableJudge::default(),
            signals: SignalJudge::default(),
            trackers: BTreeMap::new(),
            judged: BTreeMap::new(),
        }
    }

    /// What part of the evidence is missing.
    pub fn lost(&self) -> Lost {
        Lost::new(&self.losses)
    }

    /// Forgets what was judged: the address space is another one.
    pub fn forget(&mut self) {
        self.forget_blocks();
        self.residents.forget();
        self.tables.forget();
        self.signals.forget();
    }

    /// Forgets what was judged of blocks: they are not known any more.
    pub fn forget_blocks(&mut self) {
        self.trackers.clear();
        self.judged.clear();
    }

    /// What was judged at the last snapshot.
    pub fn judged(&self) -> &BTreeMap<SeriesKey, Judged> {
        &self.judged
    }

    /// What is remembered of a series.
    pub fn tracker(&self, key: &SeriesKey) -> Tracker<Window> {
        self.trackers.get(key).copied().unwrap_or_default()
    }

    /// A state is only as good as the evidence: with too much of it lost there is none.
    pub fn state(&self, judged: &Judged) -> FindingState {
        if self.lost().worst() > LOSS_ANY {
            FindingState::None
        } else {
            judged.state
        }
    }

    /// Bytes by which the floor must grow before a leak that began in epoch `onset` is confirmed.
    pub fn budget_bytes(&self, growth: &Growth, onset: usize) -> f64 {
        self.budget_since(growth.epochs.start(onset))
    }

    /// The same for a leak that began at `onset`.
    pub fn budget_since(&self, onset: Nanos) -> f64 {
        match self.memory.limit(self.options.memory_limit) {
            None => options::BUDGET_WITHOUT_LIMIT,
            Some(limit) => {
                let used = self.memory.used_at(onset);
                self.options.budget * limit.saturating_sub(used) as f64
            }
        }
    }

    /// Bytes that the process may still use.
    pub(super) fn headroom(&self) -> Option<f64> {
        let limit = self.memory.limit(self.options.memory_limit)?;
        Some(limit.saturating_sub(self.memory.last().used) as f64)
    }

    /// Seconds from the onset that a confirmation needs of what has grown by so many resident bytes in `seconds`.
    pub fn confirm_seconds(&self, grown: f64, seconds: f64) -> f64 {
        let least = CONFIRM_AGES * self.options.maturity_seconds;
        let most = CONFIRM_SECONDS.max(least);
        match self.headroom() {
            Some(headroom) if grown > 0.0 => {
                (CONFIRM_PART * headroom * seconds / grown).clamp(least, most)
            }
            _ => most,
        }
    }

    /// What so many heap bytes take of the limit: allocators round up and keep books.
    pub(super) fn resident(&self, heap: f64) -> f64 {
        heap * self.memory.overhead()
    }

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.judged.len() * (size_of::<Judged>() + size_of::<Tracker<Window>>() + 64)
            + self.signals.state_bytes()
            + size_of_val(self.memory.points())
    }
}
