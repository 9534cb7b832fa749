//! A line through the levels of a growth signal.

use crate::events::Nanos;
use crate::growth::signals::{SignalKey, Signals};

/// A least-squares line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Growth per second.
    pub(super) slope: f64,
    /// Its standard error.
    pub(super) error: f64,
    /// Seconds from the first to the last level.
    pub(super) seconds: f64,
}

impl Line {
    /// Through at least three levels.
    pub(super) fn through(points: &[(Nanos, f64)]) -> Option<Self> {
        let (first, last) = (points.first()?.0, points.last()?.0);
        let n = points.len() as f64;
        let at = |point: &(Nanos, f64)| point.0.since(first);
        let (x, y) = (
            points.iter().map(at).sum::<f64>() / n,
            points.iter().map(|point| point.1).sum::<f64>() / n,
        );
        let spread: f64 = points.iter().map(|point| (at(point) - x).powi(2)).sum();
        if spread <= 0.0 || n < 3.0 {
            return None;
        }
        let slope = points.iter().map(|p| (at(p) - x) * (p.1 - y)).sum::<f64>() / spread;
        let rest: f64 = points
            .iter()
            .map(|p| (p.1 - y - slope * (at(p) - x)).powi(2))
            .sum();
        Some(Self {
            slope,
            error: (rest / (n - 2.0) / spread).sqrt(),
            seconds: last.since(first),
        })
    }
}

/// The levels of a signal with their times.
pub(super) fn levels(signals: &Signals, key: &SignalKey) -> Vec<(Nanos, f64)> {
    let family = signals.family(key);
    let levels = family.signals().filter(|(known, _)| *known == key);
    let levels = levels.flat_map(|(_, signal)| family.ticks().iter().zip(&signal.levels));
    levels
        .filter_map(|(tick, level)| Some((tick.at, (*level)?.value)))
        .collect()
}
