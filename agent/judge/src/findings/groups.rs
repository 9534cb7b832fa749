//! Series that belong to one leak, and where their growth began.

use std::collections::BTreeMap;

use crate::growth::SeriesKey;
use crate::report::{Cause, FindingState};

use super::judged::Judged;
use super::window::View;

/// The onset: the first epoch of the growth in the window that begins with epoch `from`.
///
/// Epochs before the onset hold at most 2 % of the live bytes. An epoch in which the growth began half-way
/// would dilute per-request figures. It is left out if enough epochs remain.
pub fn onset(view: &View, from: usize) -> usize {
    let epochs = &view.series.epochs;
    let total: f64 = epochs[from..]
        .iter()
        .map(crate::growth::series::Epoch::live)
        .sum();
    let mut sum = 0.0;
    let start = (from..epochs.len()).find(|i| {
        sum += epochs[*i].live();
        sum > 0.02 * total
    });
    let start = start.unwrap_or(from);
    let density = |range: std::ops::Range<usize>| {
        let live: f64 = epochs[range.clone()]
            .iter()
            .map(crate::growth::series::Epoch::live)
            .sum();
        live / view.events(range).max(1.0)
    };
    let rest = start + 1..epochs.len();
    let remaining: f64 = epochs[rest.clone()]
        .iter()
        .map(crate::growth::series::Epoch::live)
        .sum();
    if remaining > total / 2.0 && density(start..start + 1) < 0.8 * density(rest) {
        start + 1
    } else {
        start
    }
}

/// Series with a state, by route and cause, biggest first within a group and between groups.
pub fn groups(judged: &BTreeMap<SeriesKey, Judged>) -> Vec<Vec<SeriesKey>> {
    let mut by_cause: BTreeMap<_, Vec<SeriesKey>> = BTreeMap::new();
    for (key, one) in judged
        .iter()
        .filter(|(_, one)| one.state > FindingState::None)
    {
        by_cause
            .entry((key.route, key.kind, one.cause))
            .or_default()
            .push(*key);
    }
    // Series with an undecided cause join the only decided cause of the route.
    let undecided: Vec<_> = by_cause
        .keys()
        .filter(|key| key.2 == Cause::Indeterminate)
        .copied()
        .collect();
    for key in undecided {
        let decided: Vec<_> = by_cause
            .keys()
            .filter(|other| (other.0, other.1) == (key.0, key.1) && other.2 != Cause::Indeterminate)
            .copied()
            .collect();
        if let ([only], Some(moved)) = (decided.as_slice(), by_cause.get(&key).cloned()) {
            by_cause.remove(&key);
            by_cause.entry(*only).or_default().extend(moved);
        }
    }
    let size = |key: &SeriesKey| judged.get(key).map_or(0.0, |one| one.window.net);
    let mut groups: Vec<Vec<SeriesKey>> = by_cause.into_values().collect();
    for group in &mut groups {
        group.sort_by(|a, b| size(b).total_cmp(&size(a)));
    }
    groups.sort_by(|a, b| {
        let sum = |group: &[SeriesKey]| group.iter().map(size).sum::<f64>();
        sum(b).total_cmp(&sum(a))
    });
    groups
}
