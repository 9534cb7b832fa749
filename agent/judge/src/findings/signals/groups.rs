//! Groups of growth signals that belong to one leak.

use std::collections::BTreeMap;

use crate::attribution::keys::RouteId;
use crate::events::INSTANCES;
use crate::growth::signals::SignalKey;
use crate::report::{Cause, FindingState};

use super::judged::JudgedSignal;

/// The growth signals of one leak.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Signals, the main one first.
    pub keys: Vec<SignalKey>,
    /// Cause of the growth.
    pub cause: Cause,
    /// Route. `None`: undecided.
    pub route: Option<RouteId>,
}

/// Groups of growing signals, the biggest growth first.
pub fn groups(judged: &BTreeMap<SignalKey, JudgedSignal>) -> Vec<Group> {
    let grows = |want: fn(&SignalKey) -> bool| {
        judged
            .iter()
            .filter(move |(key, one)| one.state > FindingState::None && want(key))
    };
    let mut groups: Vec<Group> = Vec::new();
    // Containers first, because they are counted exactly.
    let decided = |one: &JudgedSignal| {
        one.explained
            .as_ref()
            .is_some_and(|e| e.cause != Cause::Indeterminate && e.route.is_some())
    };
    let ranked = |want: fn(&SignalKey) -> bool| {
        let mut rows: Vec<(&SignalKey, &JudgedSignal)> = grows(want).collect();
        rows.sort_by(|a, b| {
            (decided(b.1), weight(b))
                .partial_cmp(&(decided(a.1), weight(a)))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        rows
    };
    for (key, one) in ranked(is_container) {
        join(&mut groups, key, one, decided(one));
    }
    for (key, one) in ranked(is_instances) {
        match groups.first_mut().filter(|group| fits(group, one)) {
            Some(group) => group.keys.push(key.clone()),
            None => join(&mut groups, key, one, decided(one)),
        }
    }
    // A heap and its sites are one group; they include the memory of containers.
    let mut rest: Vec<(&SignalKey, &JudgedSignal)> =
        grows(|key| matches!(key, SignalKey::Site(_) | SignalKey::Heap)).collect();
    rest.sort_by(|a, b| {
        (b.0 == &SignalKey::Heap, b.1.window.net)
            .partial_cmp(&(a.0 == &SignalKey::Heap, a.1.window.net))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    // Page faults are better evidence than resident memory.
    rest.extend(grows(|key| *key == SignalKey::Faults));
    rest.extend(grows(|key| *key == SignalKey::Process));
    for (key, one) in rest {
        match groups.first_mut() {
            Some(group) => group.keys.push(key.clone()),
            None => groups.push(group_of(key, one)),
        }
    }
    groups
}

/// Adds a signal to the group of the same route and cause. An undecided signal is added if exactly one
/// group fits.
fn join(groups: &mut Vec<Group>, key: &SignalKey, one: &JudgedSignal, decided: bool) {
    let new = group_of(key, one);
    let same = if decided {
        groups
            .iter()
            .position(|group| (group.cause, group.route) == (new.cause, new.route))
    } else {
        let fitting: Vec<usize> = (0..groups.len())
            .filter(|i| fits(&groups[*i], one))
            .collect();
        fitting.first().copied().filter(|_| fitting.len() == 1)
    };
    match same.and_then(|index| groups.get_mut(index)) {
        Some(group) => group.keys.push(key.clone()),
        None => groups.push(new),
    }
}

fn group_of(key: &SignalKey, one: &JudgedSignal) -> Group {
    Group {
        keys: vec![key.clone()],
        cause: one
            .explained
            .as_ref()
            .map_or(Cause::Indeterminate, |e| e.cause),
        route: one.explained.as_ref().and_then(|e| e.route),
    }
}

/// Whether the group's route and cause are possible for this signal too.
fn fits(group: &Group, one: &JudgedSignal) -> bool {
    let Some(explained) = &one.explained else {
        return true;
    };
    let route =
        group.route.is_none() || explained.route.is_none() || group.route == explained.route;
    let cause = [group.cause, explained.cause].contains(&Cause::Indeterminate)
        || group.cause == explained.cause;
    route && cause
}

/// Rank of the main signal: known bytes, then entries, then the shorter path.
fn weight((key, one): &(&SignalKey, &JudgedSignal)) -> (f64, f64, f64) {
    let bytes = one
        .last
        .bytes
        .zip(one.first.bytes)
        .map_or(0.0, |(last, first)| last - first);
    let SignalKey::Container(path, _) = key else {
        return (bytes, one.window.net, 0.0);
    };
    (bytes, one.window.net, -(path.len() as f64))
}

fn is_container(key: &SignalKey) -> bool {
    matches!(key, SignalKey::Container(_, kind) if kind != INSTANCES)
}

fn is_instances(key: &SignalKey) -> bool {
    matches!(key, SignalKey::Container(_, kind) if kind == INSTANCES)
}
