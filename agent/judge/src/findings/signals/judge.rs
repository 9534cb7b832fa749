//! Judges all growth signals after a reading: gates, false discovery rate, state, explanation.

use std::collections::{BTreeMap, BTreeSet};

use crate::attribution::Attribution;
use crate::events::Nanos;
use crate::growth::signals::{About, SignalKey, Signals};
use crate::report::FindingState;

use super::bounded;
use super::curve::Curve;
use super::explanation;
use super::gates::{self, Outcome, Window};
use super::judged::JudgedSignal;
use super::regression::Context;
use crate::findings::evalue::e_bh;
use crate::findings::gates::Why;
use crate::findings::options::{FALSE_DISCOVERY, JudgeOptions, WIPED};
use crate::findings::plateaus::{self, Plateaus};
use crate::findings::tracker::Tracker;

/// The judge of all growth signals of one target.
#[derive(Debug, Default)]
pub struct SignalJudge {
    trackers: BTreeMap<SignalKey, Tracker<Nanos>>,
    judged: BTreeMap<SignalKey, JudgedSignal>,
}

impl SignalJudge {
    /// Forgets all results, because the address space was replaced.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Judges all signals after a reading at `now`. `start`: start of the observation.
    pub fn judge(
        &mut self,
        signals: &Signals,
        attribution: &Attribution,
        options: &JudgeOptions,
        plateaus: &mut Plateaus,
        start: Nanos,
        now: Nanos,
    ) {
        let mut outcomes = Vec::new();
        let counted = signals.censuses().0 > 0;
        for family in signals.families() {
            for (key, signal) in family.signals() {
                let curve = Curve::new(family, signal, &attribution.routes);
                if curve.is_empty() {
                    continue;
                }
                let outcome = gates::judge(key, &curve, counted);
                outcomes.push((key, curve, outcome, &signal.about));
            }
        }
        let held = held(&outcomes);
        let logs: Vec<f64> = outcomes
            .iter()
            .filter_map(|(_, _, outcome, _)| growing(outcome).map(|grows| grows.1))
            .collect();
        // A signal that never changed cannot be a false discovery.
        let moved = outcomes
            .iter()
            .filter(|(_, curve, _, _)| moves(curve))
            .count();
        let evident = e_bh(&logs, moved, FALSE_DISCOVERY);
        // While a cache that the user expects fills, the process grows with it.
        let expected = outcomes.iter().any(|(key, curve, outcome, _)| {
            growing(outcome).is_some() && is_expected(options, key, curve)
        });
        self.judged.clear();
        let known: BTreeSet<&SignalKey> = outcomes.iter().map(|one| one.0).collect();
        self.trackers.retain(|key, _| known.contains(key));
        for (key, curve, outcome, about) in outcomes {
            let grows = growing(&outcome)
                .filter(|(_, log)| *log >= evident)
                .filter(|_| !is_expected(options, key, &curve))
                .filter(|_| !is_known(plateaus, key, &curve))
                .filter(|_| !held.contains(key))
                .filter(|_| !expected || !is_total(key))
                .map(|grows| grows.0);
            let peak = curve
                .points
                .iter()
                .map(|point| point.level.high)
                .fold(0.0, f64::max);
            let wiped = curve
                .points
                .last()
                .is_some_and(|last| last.level.value < WIPED * peak);
            if grows.is_none() && !self.trackers.contains_key(key) && !moves(&curve) {
                continue;
            }
            let tracker = self.trackers.entry(key.clone()).or_default();
            let began = grows.map(|window| curve.points[window.from].at);
            tracker.step(began, now, wiped);
            let from = tracker
                .growth
                .and_then(|at| curve.points.iter().position(|point| point.at >= at))
                .unwrap_or(0);
            let window = grows.unwrap_or_else(|| gates::window(&curve, from));
            let (Some(first), Some(last)) = (curve.points.get(window.from), curve.points.last())
            else {
                continue;
            };
            let state = tracker.state.unwrap_or(FindingState::None);
            learn(plateaus, key, state, &outcome, &curve, peak);
            let explained = (state > FindingState::None)
                .then(|| {
                    let since = curve.points[window.from].at.since(start);
                    let seen = signals.stack_requests.of(&about.writers, attribution);
                    let about = Context {
                        bytes: key.is_bytes(),
                        start: since,
                        seen: &seen,
                        routes: &attribution.routes,
                        length_samples: false,
                    };
                    let censuses = explanation::explain(&curve, window.from, about);
                    let length_samples =
                        Curve::length_samples(&signals.length_samples, key, &attribution.routes);
                    explanation::prefer_length_samples(censuses, &length_samples, about)
                })
                .flatten();
            let why = if let Outcome::Still(why) = outcome {
                Some(why)
            } else {
                None
            };
            let about = about.clone();
            self.judged.insert(
                key.clone(),
                JudgedSignal {
                    state,
                    why,
                    window,
                    onset: first.at,
                    first: first.level,
                    last: last.level,
                    explained,
                    about,
                },
            );
        }
    }

    /// The results of the last reading.
    pub fn judged(&self) -> &BTreeMap<SignalKey, JudgedSignal> {
        &self.judged
    }

    /// The tracker of a signal.
    pub fn tracker(&self, key: &SignalKey) -> Tracker<Nanos> {
        self.trackers.get(key).copied().unwrap_or_default()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.judged.len() * 900 + self.trackers.len() * 200
    }

    /// Confirms signals whose growth together has passed the growth budget.
    pub fn confirm(&mut self, keys: &[SignalKey], now: Nanos) {
        for key in keys {
            if let (Some(judged), Some(tracker)) =
                (self.judged.get_mut(key), self.trackers.get_mut(key))
                && tracker.confirm(now)
            {
                judged.state = FindingState::Confirmed;
            }
        }
    }
}

/// Signals that caches with a bound of their own explain.
fn held<'a>(outcomes: &[(&'a SignalKey, Curve, Outcome, &About)]) -> BTreeSet<&'a SignalKey> {
    let bounded = outcomes.iter().filter(|one| bounded::is_bounded(one.0));
    let bounded: Vec<&Curve> = bounded.map(|one| &one.1).collect();
    let held = outcomes.iter().filter(|(key, curve, outcome, _)| {
        growing(outcome).is_some_and(|grows| bounded::holds(&bounded, key, curve, grows.0.from))
    });
    held.map(|one| one.0).collect()
}

fn growing(outcome: &Outcome) -> Option<(Window, f64)> {
    match outcome {
        Outcome::Growing(window, log_e) => Some((*window, *log_e)),
        Outcome::Still(_) => None,
    }
}

fn moves(curve: &Curve) -> bool {
    let first = curve.points.first().map_or(0.0, |point| point.level.value);
    curve.points.iter().any(|point| {
        (point.level.high - first).abs() > 0.5 || (point.level.low - first).abs() > 0.5
    })
}

/// Whether a signal is a total of the process, which includes its containers.
fn is_total(key: &SignalKey) -> bool {
    matches!(
        key,
        SignalKey::Heap | SignalKey::Faults | SignalKey::Process
    )
}

/// Whether a container is within its learned plateau.
fn is_known(plateaus: &Plateaus, key: &SignalKey, curve: &Curve) -> bool {
    let held = curve.points.last().map_or(0.0, |point| point.level.value);
    matches!(key, SignalKey::Container(path, _)
        if !plateaus.is_empty() && plateaus.holds_container(&plateaus::container(path), held))
}

/// Learns the plateau of a container that is full, and forgets that of one that was confirmed.
fn learn(
    plateaus: &mut Plateaus,
    key: &SignalKey,
    state: FindingState,
    outcome: &Outcome,
    curve: &Curve,
    peak: f64,
) {
    let SignalKey::Container(path, _) = key else {
        return;
    };
    match (state, outcome) {
        (FindingState::None, Outcome::Still(Why::Evicts | Why::Stopped)) => {
            let seconds = curve.seconds(0, curve.len() - 1);
            plateaus.full_container(plateaus::container(path), seconds, peak);
        }
        (FindingState::Confirmed, _) if !plateaus.is_empty() => {
            plateaus.outgrown(&plateaus::container(path));
        }
        _ => {}
    }
}

/// Whether the user expects a cache of this size.
fn is_expected(options: &JudgeOptions, key: &SignalKey, curve: &Curve) -> bool {
    let held = curve.points.last().map_or(0.0, |point| point.level.value);
    matches!(key, SignalKey::Container(..))
        && options
            .expect_cache_entries
            .is_some_and(|entries| held <= entries as f64)
}
