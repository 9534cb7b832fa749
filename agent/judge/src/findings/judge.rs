//! The judge of one process: its state between snapshots and readings, and the growth budget.

use std::collections::BTreeMap;

use crate::events::{Losses, Nanos};
use crate::growth::{Growth, SeriesKey};
use crate::report::FindingState;

use super::after::After;
use super::judged::Judged;
use super::losses::Lost;
use super::memory::MemoryHistory;
use super::options::{self, CONFIRM_AGES, CONFIRM_PART, CONFIRM_SECONDS, JudgeOptions, LOSS_ANY};
use super::plateaus::Plateaus;
use super::remembered::Standing;
use super::residency::Residents;
use super::signals::judge::SignalJudge;
use super::tables::TableJudge;
use super::token_counts::TokenCounts;
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
    /// Token residency.
    pub residents: Residents,
    /// Learned plateaus.
    pub plateaus: Plateaus,
    /// Confirmed findings of an earlier observation of this process, or of an earlier window.
    pub(super) standing: Vec<Standing>,
    /// Bytes per second of objects that are kept while the collector's heap does not grow: they may replace older ones,
    /// or a leak may be hidden by a cache that shrinks.
    pub(super) unshown: f64,
    /// Since when tokens of one route stay in memory (see [`super::kept_tokens`]).
    pub(super) kept_since: Option<Nanos>,
    /// Token strings in memory.
    pub(super) token_counts: TokenCounts,
    /// Judged tables.
    pub(super) tables: TableJudge,
    /// Judged growth signals.
    pub signals: SignalJudge,
    pub(super) trackers: BTreeMap<SeriesKey, Tracker<Window>>,
    pub(super) judged: BTreeMap<SeriesKey, Judged>,
    /// Since when the tracing of allocations is paused after a window.
    pub(super) paused: Option<Nanos>,
    /// Growth of the process since then.
    pub(super) after: Option<After>,
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
            standing: Vec::new(),
            unshown: 0.0,
            kept_since: None,
            token_counts: TokenCounts::default(),
            tables: TableJudge::default(),
            signals: SignalJudge::default(),
            trackers: BTreeMap::new(),
            judged: BTreeMap::new(),
            paused: None,
            after: None,
        }
    }

    /// Lost part of the evidence.
    pub fn lost(&self) -> Lost {
        Lost::new(&self.losses)
    }

    /// Forgets all results, because the address space was replaced.
    pub fn forget(&mut self) {
        self.forget_blocks();
        self.standing.clear();
        self.kept_since = None;
        self.token_counts = TokenCounts::default();
        self.residents.forget();
        self.tables.forget();
        self.signals.forget();
    }

    /// Forgets the results about blocks, because the blocks are no longer known.
    pub fn forget_blocks(&mut self) {
        self.trackers.clear();
        self.judged.clear();
        self.unshown = 0.0;
        self.after = None;
    }

    /// The results of the last snapshot.
    pub fn judged(&self) -> &BTreeMap<SeriesKey, Judged> {
        &self.judged
    }

    /// The tracker of a series.
    pub fn tracker(&self, key: &SeriesKey) -> Tracker<Window> {
        self.trackers.get(key).copied().unwrap_or_default()
    }

    /// The state of a result. It is `none` if too much evidence was lost.
    pub fn state(&self, judged: &Judged) -> FindingState {
        if self.lost().worst() > LOSS_ANY {
            FindingState::None
        } else {
            judged.state
        }
    }

    /// The growth budget: bytes by which the floor must grow before a leak that began in epoch `onset` is
    /// confirmed.
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

    /// Minimum seconds from the onset to a confirmation, if `grown` resident bytes were added in `seconds`.
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

    /// Resident bytes of `heap` heap bytes: allocators round sizes up and store headers.
    pub(super) fn resident(&self, heap: f64) -> f64 {
        heap * self.memory.overhead()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.judged.len() * (size_of::<Judged>() + size_of::<Tracker<Window>>() + 64)
            + self.signals.state_bytes()
            + size_of_val(self.memory.points())
    }
}
