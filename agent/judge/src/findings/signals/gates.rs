//! The gates: whether one growth signal grows without bounds, or why not.

use crate::events::INSTANCES;
use crate::findings::gates::Why;
use crate::findings::options::{
    EVICTING, FRESH, FRESH_PART, FRESH_SECONDS, KEPT, LEAST_HOLDERS, LEVEL, LINEAR, RECORD,
};
use crate::growth::signals::SignalKey;

use super::bounded::is_bounded;
use super::curve::{Curve, EventKind, Variable};
use super::{even, explanation};

/// Minimum levels for a suspicion, including the first.
const LEAST_LEVELS: usize = 5;
/// Minimum growth in bytes for a suspicion.
const LEAST_BYTES: f64 = 256.0 * 1024.0;
/// Minimum growth in bytes for sites of a sampled profile.
const LEAST_SAMPLED_BYTES: f64 = 1024.0 * 1024.0;
/// Minimum growth in bytes for the process as a whole.
const LEAST_COARSE_BYTES: f64 = 1024.0 * 1024.0;
/// The same if containers are counted: an interpreter allocates arenas of 1 MiB during warm-up.
const LEAST_BESIDE_CONTAINERS: f64 = 4.0 * 1024.0 * 1024.0;
/// Minimum seconds for the process as a whole.
const COARSE_SECONDS: f64 = 24.0;
/// Minimum seconds for instances of a class, which may be garbage.
const GARBAGE_SECONDS: f64 = 18.0;

/// Figures of a growth signal over the points `from..`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// First point.
    pub from: usize,
    /// Seconds since the first point.
    pub seconds: f64,
    /// Current level minus the level at the first point.
    pub net: f64,
    /// Sum of all rises.
    pub rose: f64,
    /// Sum of all falls.
    pub fell: f64,
    /// Minimum level in the last third minus the level at the first point.
    pub late_floor: f64,
}

/// Result of the gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It grows. The second value is the logarithm of its e-value.
    Growing(Window, f64),
    /// It does not grow.
    Still(Why),
}

/// Tests one signal. `counted`: the program's containers are counted.
pub fn judge(key: &SignalKey, curve: &Curve, counted: bool) -> Outcome {
    if is_bounded(key) {
        return Outcome::Still(Why::Evicts);
    }
    let Some(last) = curve.len().checked_sub(1) else {
        return Outcome::Still(Why::TooFew);
    };
    let Some(why) = gate(least(key, counted), curve, 0) else {
        return growing(key, curve, 0);
    };
    // Shorter windows find a late onset, unless 20 % or more was evicted before them.
    let mut length = last / 2;
    while length + 1 >= LEAST_LEVELS {
        let from = last - length;
        let (rose, fell) = swings(curve, 0, from);
        if (rose <= 0.0 || fell < EVICTING * rose)
            && gate(least(key, counted), curve, from).is_none()
        {
            return growing(key, curve, from);
        }
        length /= 2;
    }
    Outcome::Still(why)
}

/// Measures the points `from..`.
pub fn window(curve: &Curve, from: usize) -> Window {
    let last = curve.len() - 1;
    let seconds = curve.seconds(from, last);
    let late = late_from(curve, from);
    let (rose, fell) = swings(curve, from, last);
    let floor = curve.points[late..]
        .iter()
        .map(|point| point.level.low)
        .fold(f64::INFINITY, f64::min);
    Window {
        from,
        seconds,
        net: curve.value(last) - curve.value(from),
        rose,
        fell,
        late_floor: floor - curve.value(from),
    }
}

fn growing(key: &SignalKey, curve: &Curve, from: usize) -> Outcome {
    Outcome::Growing(window(curve, from), log_e(key, curve, from))
}

/// Half of the weight is on time and on all requests, half on the other explanatory variables.
fn log_e(key: &SignalKey, curve: &Curve, from: usize) -> f64 {
    let last = curve.len() - 1;
    let growth = curve.growth(from, last);
    let of = |variable| even::log_e(&growth, &curve.events(variable, from, last));
    let plain = [Variable::SECONDS, Variable::anywhere(EventKind::All)];
    let mut logs: Vec<(f64, f64)> = plain
        .iter()
        .filter_map(|variable| Some((of(*variable)?, 0.25)))
        .collect();
    let others = explanation::candidates(curve, key.is_bytes());
    let weight = 0.5 / others.len().max(1) as f64;
    logs.extend(
        others
            .into_iter()
            .filter_map(|variable| Some((of(variable)?, weight))),
    );
    even::weighted(&logs)
}

/// The first gate that the points `from..` fail.
fn gate(least: (f64, f64), curve: &Curve, from: usize) -> Option<Why> {
    let last = curve.len() - 1;
    let window = window(curve, from);
    let (growth, seconds) = least;
    if last + 1 - from < LEAST_LEVELS || window.seconds < seconds {
        return Some(Why::TooFew);
    }
    let (rose, fell) = swings(curve, 0, last);
    let still = if fell >= EVICTING * rose {
        Why::Evicts
    } else {
        Why::Stopped
    };
    if window.net < growth {
        return Some(if rose < growth { Why::TooFew } else { still });
    }
    if window.net < KEPT * window.rose {
        return Some(Why::Evicts);
    }
    if linearity(curve, from) < LINEAR || freshness(curve, from) < FRESH {
        return Some(still);
    }
    // Records: the floor of the last third is not below any earlier level, and clearly above the peak
    // before the window.
    let base = curve.value(from);
    let peak = |points: std::ops::Range<usize>| {
        curve.points[points]
            .iter()
            .map(|point| point.level.high)
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let late = late_from(curve, from);
    if window.late_floor <= 0.0
        || window.late_floor < LEVEL * (peak(from..late.max(from + 1)) - base)
        || (from > 0 && window.late_floor + base < peak(0..from) + (RECORD - 1.0) * rose)
    {
        return Some(still);
    }
    None
}

/// Minimum growth and seconds for a suspicion.
fn least(key: &SignalKey, counted: bool) -> (f64, f64) {
    match key {
        SignalKey::Container(_, kind) if kind == INSTANCES => (LEAST_HOLDERS, GARBAGE_SECONDS),
        SignalKey::Container(..) => (LEAST_HOLDERS, 9.0),
        SignalKey::Heap => (LEAST_BYTES, 9.0),
        SignalKey::Site(_) => (LEAST_SAMPLED_BYTES, 9.0),
        SignalKey::Faults | SignalKey::Process if counted => {
            (LEAST_BESIDE_CONTAINERS, COARSE_SECONDS)
        }
        SignalKey::Faults | SignalKey::Process => (LEAST_COARSE_BYTES, COARSE_SECONDS),
    }
}

/// Sums of all rises and falls between two points, including extremes between two levels.
fn swings(curve: &Curve, from: usize, to: usize) -> (f64, f64) {
    let (mut rose, mut fell) = (0.0, 0.0);
    for pair in curve.points[from..=to].windows(2) {
        let (before, now) = (pair[0].level.value, pair[1].level);
        let net = now.value - before;
        // Extremes that thinning removed: down to the low, or up to the high, and back.
        let hidden = (before.min(now.value) - now.low)
            .max(now.high - before.max(now.value))
            .max(0.0);
        rose += net.max(0.0) + hidden;
        fell += (-net).max(0.0) + hidden;
    }
    (rose, fell)
}

/// The first point of the last third.
fn late_from(curve: &Curve, from: usize) -> usize {
    let last = curve.len() - 1;
    let late = 2.0 / 3.0 * curve.seconds(from, last);
    (from..last)
        .find(|i| curve.seconds(from, *i) >= late)
        .unwrap_or(last)
}

/// Clocks for linearity and freshness.
const CLOCKS: [Variable; 4] = [
    Variable::SECONDS,
    Variable::anywhere(EventKind::All),
    Variable::anywhere(EventKind::Tokens),
    Variable::anywhere(EventKind::First),
];

/// Growth per event between two points. `None` without events.
fn rate(curve: &Curve, clock: Variable, from: usize, to: usize) -> Option<f64> {
    let ticks = curve.total(clock, from, to);
    (ticks > 0.0).then(|| (curve.value(to) - curve.value(from)) / ticks)
}

/// Ratio of late to early growth per event, by the clock with the largest ratio.
fn linearity(curve: &Curve, from: usize) -> f64 {
    let last = curve.len() - 1;
    CLOCKS
        .iter()
        .filter_map(|clock| {
            let events = curve.events(*clock, from, last);
            let total: f64 = events.iter().sum();
            let mut sum = 0.0;
            let half = events.iter().position(|ticks| {
                sum += ticks;
                sum >= total / 2.0
            })? + 1
                + from;
            let half = half.min(last - 1).max(from + 1);
            let early = rate(curve, *clock, from, half)?;
            let late = rate(curve, *clock, half, last)?;
            // Growth before the window counts too: a short window must not hide that it was faster.
            let before = rate(curve, *clock, 0, from).unwrap_or(0.0);
            let against = early.max(before);
            Some(if against > 0.0 {
                late / against
            } else {
                f64::from(u8::from(late > 0.0))
            })
        })
        .fold(0.0, f64::max)
}

/// Ratio of recent to mean growth per event, by the clock with the largest ratio. The recent part has at least
/// [`FRESH_PART`] of the events. If traffic stops, that is not evidence that growth per event has stopped.
fn freshness(curve: &Curve, from: usize) -> f64 {
    let last = curve.len() - 1;
    let recent = FRESH_SECONDS.max(FRESH_PART * curve.seconds(from, last));
    CLOCKS
        .iter()
        .filter_map(|clock| {
            let mean = rate(curve, *clock, from, last).filter(|mean| *mean > 0.0)?;
            let least = FRESH_PART * curve.total(*clock, from, last);
            let is_recent = |i: &usize| {
                curve.seconds(*i, last) >= recent && curve.total(*clock, *i, last) >= least
            };
            let start = (from..last).rev().find(is_recent).unwrap_or(from);
            Some(rate(curve, *clock, start, last)? / mean)
        })
        .fold(0.0, f64::max)
}
