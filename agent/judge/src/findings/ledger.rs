//! The ledger: the growth of the process, and what explains it. Pure.

use crate::growth::signals::SignalKey;
use crate::report::{Finding, FindingState, Ledger};

use super::inputs::Inputs;
use super::judge::Judge;

/// Last part of the time. Its floor is the memory at the end.
const FLOOR: f64 = 0.25;

impl Judge {
    /// The growth of the process since the start, and the parts that `findings` explain. `None`: its memory was not
    /// read twice.
    ///
    /// The gain is the floor of its anonymous memory in the last quarter of the time, less the memory at the start.
    /// Only growth is summed: memory that one site freed is not subtracted from the growth of another.
    pub fn ledger(&self, inputs: Inputs, findings: &[Finding]) -> Option<Ledger> {
        let family = inputs.signals.family(&SignalKey::Process);
        let (_, signal) = family.signals().next()?;
        let ticks = family.ticks().iter().map(|tick| tick.at);
        let levels = signal
            .levels
            .iter()
            .map(|level| level.map(|level| level.value));
        let points: Vec<_> = ticks
            .zip(levels)
            .filter_map(|(at, level)| Some((at, level?)))
            .collect();
        let (first, last) = (points.first()?, points.last()?);
        let from = last.0.since(first.0) * (1.0 - FLOOR);
        let late = points.iter().filter(|point| point.0.since(first.0) >= from);
        let floor = late.map(|point| point.1).fold(f64::INFINITY, f64::min);
        if points.len() < 2 {
            return None;
        }
        let explained = |grows: bool| -> f64 {
            let findings = findings.iter();
            let findings = findings.filter(|one| (one.state > FindingState::None) == grows);
            findings
                .map(|one| self.resident((one.retained_bytes + one.container_bytes) as f64))
                .sum()
        };
        let gained = (floor - first.1).max(0.0);
        let (growing, benign) = (explained(true), explained(false));
        Some(Ledger {
            gained_bytes: gained as u64,
            findings_bytes: growing as u64,
            benign_bytes: benign as u64,
            unexplained_bytes: (gained - growing - benign).max(0.0) as u64,
        })
    }
}
