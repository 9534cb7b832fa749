//! Findings: series that grow without bounds, why, how surely, and until when. Pure.
//!
//! After each snapshot [`Judge::snapshot`] puts every series through the gates and keeps what they
//! said; [`Judge::findings`] and the verdict only read that.

pub mod benign;
pub mod cause;
pub mod compose;
pub mod evalue;
pub mod evidence;
pub mod forecast;
pub mod gates;
pub mod losses;
pub mod memory;
pub mod options;
pub mod plateaus;
pub mod residency;
pub mod service;
pub mod signals;
pub mod tables;
pub mod tracker;
pub mod verdict;
pub mod window;

use std::collections::BTreeMap;

use crate::attribution::Attribution;
use crate::attribution::routes::RouteId;
use crate::attribution::tokens::Class;
use crate::events::{Losses, Nanos};
use crate::growth::series::Series;
use crate::growth::{Exposure, Growth, SeriesKey};
use crate::report::{Cause, FindingState};

use self::cause::{Contrast, KeptByClass};
use self::compose::Inputs;
use self::gates::{Outcome, Why};
use self::losses::Lost;
use self::memory::MemoryHistory;
use self::options::{
    CONFIRM_AGES, CONFIRM_PART, CONFIRM_SECONDS, FALSE_DISCOVERY, JudgeOptions, LOSS_ANY,
    LOSS_CONFIRM, PART_OF_GROUP, STRAY, WIPED,
};
use self::residency::Residents;
use self::signals::SignalJudge;
use self::tracker::Tracker;
use self::window::{View, Window};

/// What was judged of one series at the last snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its state.
    pub state: FindingState,
    /// Why it does not grow, if it does not.
    pub why: Option<Why>,
    /// What makes it grow, had it no other excuse.
    pub cause: Cause,
    /// Window of the growth, else the whole history.
    pub window: Window,
    /// First epoch of the growth.
    pub onset: usize,
    /// What requests of each class keep since the onset.
    pub kept: KeptByClass,
    /// The classes that were compared.
    pub contrast: Contrast,
    /// Requests since the onset whose blocks could have matured, by class.
    pub exposed: Exposure,
}

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
    pub plateaus: plateaus::Plateaus,
    /// What was judged of tables.
    tables: tables::TableJudge,
    /// What is judged without allocator probes.
    pub signals: SignalJudge,
    trackers: BTreeMap<SeriesKey, Tracker<Window>>,
    judged: BTreeMap<SeriesKey, Judged>,
}

impl Judge {
    /// Nothing seen yet.
    pub fn new(options: JudgeOptions) -> Self {
        Self {
            options,
            memory: MemoryHistory::default(),
            losses: Losses::default(),
            residents: Residents::default(),
            plateaus: plateaus::Plateaus::default(),
            tables: tables::TableJudge::default(),
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

    /// Judges all series after a snapshot.
    pub fn snapshot(&mut self, growth: &Growth, attribution: &Attribution) {
        let now = growth.epochs.now();
        let outcomes: Vec<(SeriesKey, Outcome)> = growth
            .series()
            .map(|(key, series)| (*key, gates::judge(&view(growth, *key, series))))
            .collect();
        let logs: Vec<f64> = outcomes
            .iter()
            .filter_map(|(_, outcome)| growing(outcome))
            .map(|g| g.1)
            .collect();
        let least = evalue::e_bh(&logs, outcomes.len(), FALSE_DISCOVERY);
        self.trackers.retain(|key, _| growth.get(key).is_some());
        self.judged.clear();
        for (key, outcome) in &outcomes {
            let Some(series) = growth.get(key) else {
                continue;
            };
            let view = view(growth, *key, series);
            let grows = growing(outcome)
                .filter(|(window, log)| *log >= least && !self.is_expected(window))
                .map(|(window, _)| window)
                .filter(|window| !self.is_known(attribution, *key, window))
                .filter(|_| !is_stray(growth, *key, series));
            let tracker = self.trackers.entry(*key).or_default();
            let wiped = series.live_bytes() < WIPED * view.peak_before(view.len());
            tracker.step(grows, now, wiped);
            let Some(first) = view.first() else {
                continue;
            };
            let window = grows
                .or(tracker.growth)
                .unwrap_or_else(|| view.window(first));
            let onset = compose::onset(&view, window.from.min(view.len() - 1));
            let exposed = exposed(view.exposures, onset);
            let kept = cause::kept(&series.classes, exposed);
            let contrast = cause::contrast(&kept, None);
            let judged = Judged {
                state: tracker.state.unwrap_or(FindingState::None),
                why: if let Outcome::Still(why) = outcome {
                    Some(*why)
                } else {
                    None
                },
                cause: route_cause(key.route, &contrast, attribution),
                contrast,
                window: view.window(window.from.min(view.len() - 1)),
                onset,
                kept,
                exposed,
            };
            self.learn(attribution, *key, &judged, &view);
            self.judged.insert(*key, judged);
        }
        if self.lost().worst() <= LOSS_CONFIRM {
            self.confirm(growth, now);
        }
        self.judge_tables(growth, now);
    }

    /// Judges all signals after a reading.
    pub fn reading(&mut self, inputs: Inputs) {
        let options = self.options;
        self.signals.judge(
            inputs.signals,
            inputs.attribution,
            &options,
            inputs.start,
            inputs.now,
        );
        self.confirm_signals(inputs);
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
    fn headroom(&self) -> Option<f64> {
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
    fn resident(&self, heap: f64) -> f64 {
        heap * self.memory.overhead()
    }

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.judged.len() * (size_of::<Judged>() + size_of::<Tracker<Window>>() + 64)
            + self.signals.state_bytes()
            + size_of_val(self.memory.points())
    }

    /// Whether the series is within a plateau that was learned before.
    fn is_known(&self, attribution: &Attribution, key: SeriesKey, window: &Window) -> bool {
        !self.plateaus.is_empty()
            && self
                .plateaus
                .holds(&plateaus::name(attribution, key), window)
    }

    fn learn(&mut self, attribution: &Attribution, key: SeriesKey, judged: &Judged, view: &View) {
        let stopped = matches!(judged.why, Some(Why::Evicts | Why::Stopped));
        if judged.state == FindingState::None && stopped {
            let whole = view.first().map(|first| view.window(first));
            let peak = view.peak_before(view.len());
            if let Some(whole) = whole {
                self.plateaus
                    .full(plateaus::name(attribution, key), &whole, peak);
            }
        } else if judged.state == FindingState::Confirmed && !self.plateaus.is_empty() {
            self.plateaus.outgrown(&plateaus::name(attribution, key));
        }
    }

    fn is_expected(&self, window: &Window) -> bool {
        self.options
            .expect_cache_entries
            .is_some_and(|entries| window.alive <= entries as f64)
    }

    /// Confirms the suspects of each (route, cause) whose floors together pass the budget.
    fn confirm(&mut self, growth: &Growth, now: Nanos) {
        for group in compose::groups(&self.judged) {
            let floors = group.iter().filter_map(|key| self.judged.get(key));
            let floors = floors.map(|j| j.window.fresh_floor);
            let most = floors.clone().fold(0.0, f64::max);
            let floor = self.resident(floors.sum());
            let Some(main) = group.first().and_then(|key| self.judged.get(key)) else {
                continue;
            };
            let onset = main.onset;
            let seconds = now.since(growth.epochs.start(onset));
            let needed = self.confirm_seconds(floor, seconds);
            if floor < self.budget_bytes(growth, onset) || seconds < needed {
                continue;
            }
            for key in &group {
                // what is small beside the rest of its group is not confirmed along with it
                if let (Some(judged), Some(tracker)) =
                    (self.judged.get_mut(key), self.trackers.get_mut(key))
                    && judged.window.fresh_floor >= PART_OF_GROUP * most
                    && tracker.confirm(now)
                {
                    judged.state = FindingState::Confirmed;
                }
            }
        }
    }
}

/// A series with its exposures.
pub fn view<'a>(growth: &'a Growth, key: SeriesKey, series: &'a Series) -> View<'a> {
    View {
        series,
        exposures: growth.exposures(key.route),
        epochs: &growth.epochs,
    }
}

/// Whether blocks got a route's requests by the way: the same site keeps far more for no request, and
/// nothing ties these to theirs but the thread.
fn is_stray(growth: &Growth, key: SeriesKey, series: &Series) -> bool {
    let elsewhere = SeriesKey {
        route: RouteId::BACKGROUND,
        ..key
    };
    key.route.has_requests()
        && series.exact_bytes < 0.5 * series.live_bytes()
        && growth
            .get(&elsewhere)
            .is_some_and(|background| series.live_bytes() < STRAY * background.live_bytes())
}

fn growing(outcome: &Outcome) -> Option<(Window, f64)> {
    match outcome {
        Outcome::Growing { window, log_e } => Some((*window, *log_e)),
        Outcome::Still(_) => None,
    }
}

fn exposed(exposures: &[Exposure], from: usize) -> Exposure {
    let mut sum = [0; Class::COUNT];
    for epoch in exposures.iter().skip(from) {
        for (sum, part) in sum.iter_mut().zip(epoch) {
            *sum += part;
        }
    }
    sum
}

fn route_cause(route: RouteId, contrast: &Contrast, attribution: &Attribution) -> Cause {
    if route == RouteId::BACKGROUND {
        return Cause::Background;
    }
    if route == RouteId::UNATTRIBUTED {
        return Cause::Indeterminate;
    }
    let known = attribution.routes.get(route);
    cause::cause(
        contrast,
        known.uncertain as f64 / known.requests.max(1) as f64,
    )
}
