//! Judges all series after a snapshot: gates, false discovery rate, state, cause, confirmation.

use crate::attribution::Attribution;
use crate::attribution::keys::{Class, RouteId};
use crate::events::Nanos;
use crate::growth::reading::ClassNow;
use crate::growth::series::{Epoch, Series};
use crate::growth::signals::Signals;
use crate::growth::{Exposure, Growth, SeriesKey};
use crate::report::{Cause, FindingState};

use super::cause::{self, Contrast};
use super::gates::{self, Outcome, Why};
use super::groups::{groups, onset};
use super::judge::Judge;
use super::judged::Judged;
use super::options::{FALSE_DISCOVERY, LOSS_CONFIRM, PART_OF_GROUP, STRAY, WIPED};
use super::window::{View, Window};
use super::{collected, evalue, plateaus};

/// Maximum balanced part of the growth of a plateau that is learned.
const MOST_BALANCED: f64 = 0.1;

impl Judge {
    /// Judges all series after a snapshot.
    pub fn snapshot(&mut self, growth: &Growth, attribution: &Attribution, signals: &Signals) {
        let now = growth.epochs.now();
        let outcomes: Vec<(SeriesKey, Outcome)> = growth
            .series()
            .map(|(key, series)| (*key, gates::judge(&View::new(growth, *key, series))))
            .collect();
        let logs: Vec<f64> = outcomes
            .iter()
            .filter_map(|(_, outcome)| growing(outcome))
            .map(|g| g.1)
            .collect();
        let least = evalue::e_bh(&logs, outcomes.len(), FALSE_DISCOVERY);
        let grown = outcomes.iter().filter_map(|(_, outcome)| growing(outcome));
        let grown = grown
            .filter(|(_, log)| *log >= least)
            .map(|(window, _)| window);
        let from = grown.clone().map(|window| window.from).min();
        let bytes: f64 = grown
            .map(|window| (window.net - window.released()).max(0.0))
            .sum();
        let shown = from
            .is_none_or(|from| collected::shows(signals, growth.epochs.start(from), now, bytes));
        let seconds = from.map_or(0.0, |from| now.since(growth.epochs.start(from)));
        self.unshown = if shown { 0.0 } else { bytes / seconds.max(1.0) };
        self.trackers.retain(|key, _| growth.get(key).is_some());
        self.judged.clear();
        for (key, outcome) in &outcomes {
            let Some(series) = growth.get(key) else {
                continue;
            };
            let view = View::new(growth, *key, series);
            let grows = growing(outcome)
                .filter(|(window, log)| *log >= least && !self.is_expected(window))
                .map(|(window, _)| window)
                .filter(|window| !self.is_known(attribution, *key, window))
                .filter(|_| shown && !is_stray(growth, *key, series));
            let tracker = self.trackers.entry(*key).or_default();
            let wiped = series.live_bytes() < WIPED * view.peak_before(view.len());
            tracker.step(grows, now, wiped);
            let Some(first) = view.first() else {
                continue;
            };
            let window = grows
                .or(tracker.growth)
                .unwrap_or_else(|| view.window(first));
            let onset = onset(&view, window.from.min(view.len() - 1));
            let exposed = exposed(view.exposures, onset);
            let kept = cause::kept(&classes_since(series, onset), exposed);
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

    /// Whether the series is within its learned plateau.
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
            // Balanced growth is too weak to learn from: it may be a leak beside memory that is released.
            let whole = whole.filter(|whole| whole.balanced <= MOST_BALANCED * whole.matured);
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

    /// Confirms the suspects of each route and cause if the sum of their floors passes the growth budget.
    fn confirm(&mut self, growth: &Growth, now: Nanos) {
        for group in groups(&self.judged) {
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
                // A series that is small compared with its group is not confirmed with it.
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

/// Whether a series is bound to its route by accident: the binding is by thread only, and the same site
/// keeps far more memory without a request.
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

/// The classes of a series, without the memory that matured before epoch `from`: its requests are not exposed either.
fn classes_since(series: &Series, from: usize) -> [ClassNow; Class::COUNT] {
    let mut classes = series.classes;
    for (index, class) in classes.iter_mut().enumerate() {
        let sum = |epochs: &[Epoch]| {
            let cohorts = epochs.iter().map(|epoch| &epoch.cohorts[index]);
            cohorts.fold((0.0, 0.0), |sum, cohort| {
                (
                    sum.0 + f64::from(cohort.live),
                    sum.1 + f64::from(cohort.alive),
                )
            })
        };
        let (all, since) = (sum(&series.epochs), sum(&series.epochs[from..]));
        let part = |since: f64, all: f64| if all > 0.0 { since / all } else { 1.0 };
        let bytes = part(since.0, all.0);
        class.bytes *= bytes;
        class.squares *= bytes;
        class.variance *= bytes;
        class.holders = (class.holders as f64 * part(since.1, all.1)).round() as u64;
    }
    classes
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
