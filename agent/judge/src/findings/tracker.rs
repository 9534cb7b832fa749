//! The state of one series or signal over time. It is suspected at once and dropped with a delay.

use crate::events::Nanos;
use crate::report::FindingState;

use super::options::{DROP_CONFIRMED_SECONDS, DROP_SUSPECT_SECONDS, PATIENCE};

/// The state of one series or signal. `Growth` identifies the window of its growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracker<Growth> {
    /// When it was suspected.
    pub suspected: Option<Nanos>,
    /// When it was confirmed.
    pub confirmed: Option<Nanos>,
    /// Its state now.
    pub state: Option<FindingState>,
    /// The last growth that passed all gates.
    pub growth: Option<Growth>,
    /// Since when its gates have failed while it has a state.
    failing: Option<Nanos>,
}

impl<Growth> Default for Tracker<Growth> {
    fn default() -> Self {
        Self {
            suspected: None,
            confirmed: None,
            state: None,
            growth: None,
            failing: None,
        }
    }
}

impl<Growth> Tracker<Growth> {
    /// Updates the state. `grows`: the window, if all gates are passed. `wiped`: most of it was freed at
    /// once.
    pub fn step(&mut self, grows: Option<Growth>, now: Nanos, wiped: bool) {
        if grows.is_some() {
            self.growth = grows;
            self.failing = None;
            self.suspected.get_or_insert(now);
            self.state = self.state.max(Some(FindingState::Suspect));
            return;
        }
        let Some(state) = self.state else {
            return;
        };
        let failing = *self.failing.get_or_insert(now);
        let patience = if state == FindingState::Confirmed {
            DROP_CONFIRMED_SECONDS
        } else {
            DROP_SUSPECT_SECONDS
        };
        let grew = self.suspected.map_or(0.0, |at| now.since(at));
        if wiped || now.since(failing) >= patience.max(PATIENCE * grew) {
            *self = Self::default();
        }
    }

    /// Confirms it, because its growth has passed the budget. Returns `false` without a change if its gates
    /// fail at present.
    pub fn confirm(&mut self, now: Nanos) -> bool {
        if self.failing.is_some() {
            return false;
        }
        self.state = Some(FindingState::Confirmed);
        self.confirmed.get_or_insert(now);
        true
    }
}
