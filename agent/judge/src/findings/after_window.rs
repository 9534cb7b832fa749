//! Confirms a suspicion from a window of traced allocations by the memory of the process after the window. Pure.
//!
//! A window is short, because probes on allocators are expensive, so the growth budget is rarely reached in it. But the
//! window tells which code keeps how much per second. If the process then goes on to grow as much as that, for as long
//! and by as much as a confirmation needs, it is that growth.

use crate::events::Nanos;
use crate::growth::SeriesKey;
use crate::growth::signals::SignalKey;
use crate::report::FindingState;

use super::after::After;
use super::groups::groups;
use super::inputs::Inputs;
use super::judge::Judge;
use super::line::{Line, levels};
use super::options::{LEAST_LEVELS, LOSS_CONFIRM, PART_OF_GROUP};

/// One-sided 95 % quantile of the normal distribution.
const NORMAL: f64 = 1.645;
/// Part of a group's growth that the process must show beyond the growth of all other groups.
const SHOWN: f64 = 0.5;

/// Growth of the process counts up to this multiple of the prediction, which contains no tables and is too small while
/// tokens look new that the service knew before the attach.
const MOST: f64 = 3.0;

impl Judge {
    /// A window of traced allocations has ended at `at`, or one begins (`None`).
    pub fn pause(&mut self, at: Option<Nanos>) {
        self.paused = at;
        self.after = None;
    }

    /// Confirms what the growth of the process since the last window shows.
    pub(super) fn confirm_after_window(&mut self, inputs: Inputs) {
        self.after = self.after_window(inputs);
        let Some(after) = self.after.filter(|_| self.lost().worst() <= LOSS_CONFIRM) else {
            return;
        };
        let now = inputs.now;
        for (group, rate) in self.predictions(inputs) {
            let Some(main) = group.first().and_then(|key| self.judged.get(key)) else {
                continue;
            };
            // Without this group the process would grow by the others only.
            if after.least < after.predicted - (1.0 - SHOWN) * rate {
                continue;
            }
            let onset = main.onset;
            let floors = group.iter().filter_map(|key| self.judged.get(key));
            let floor: f64 = floors.clone().map(|one| one.window.fresh_floor).sum();
            let most = floors.map(|one| one.window.fresh_floor).fold(0.0, f64::max);
            let share = after.least * rate / after.predicted;
            let grown = self.resident(floor) + share.min(MOST * rate) * after.seconds;
            let seconds = now.since(inputs.growth.epochs.start(onset));
            if grown < self.budget_bytes(inputs.growth, onset)
                || seconds < self.confirm_seconds(grown, seconds)
            {
                continue;
            }
            for key in &group {
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

    /// The groups of series with a state, and the resident bytes per second that each predicts.
    fn predictions(&self, inputs: Inputs) -> Vec<(Vec<SeriesKey>, f64)> {
        let groups = groups(&self.judged).into_iter();
        let rate = |group: &[SeriesKey]| {
            let onset = group
                .iter()
                .filter_map(|key| Some(self.judged.get(key)?.onset))
                .min();
            let rate = onset.map(|onset| Self::growth_of(inputs, group, onset, 0.0).mean);
            self.resident(rate.unwrap_or(0.0).max(0.0))
        };
        groups
            .map(|group| {
                let rate = rate(&group);
                (group, rate)
            })
            .collect()
    }

    /// `None` while allocations are traced, without a suspicion, and until the process or its collector's heap is known
    /// to grow.
    fn after_window(&self, inputs: Inputs) -> Option<After> {
        let paused = self.paused.filter(|_| !inputs.garbage)?;
        let predicted: f64 = self.predictions(inputs).iter().map(|one| one.1).sum();
        let signals = inputs.signals;
        // What collections find reachable does not contain garbage.
        let key = [SignalKey::Heap, SignalKey::Process]
            .into_iter()
            .find(|key| !levels(signals, key).is_empty())?;
        let grows = |key: &SignalKey| {
            let one = self.signals.judged().get(key);
            one.is_some_and(|one| one.state > FindingState::None)
        };
        // Containers that grow make the process grow too, and are no part of the prediction.
        let containers = self.signals.judged().keys();
        let mut containers = containers.filter(|key| matches!(key, SignalKey::Container(..)));
        if !grows(&key) || containers.any(grows) {
            return None;
        }
        let since: Vec<(Nanos, f64)> = levels(signals, &key)
            .into_iter()
            .filter(|level| level.0 >= paused)
            .collect();
        let line = Line::through(&since).filter(|_| since.len() >= LEAST_LEVELS)?;
        (predicted > 0.0).then_some(After {
            least: line.slope - NORMAL * line.error,
            predicted,
            seconds: line.seconds,
        })
    }
}
