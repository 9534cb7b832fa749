//! The state of the metrics: the targets with their newest reports, and counters of the agent.

use std::collections::BTreeMap;

use super::facts::{Declared, Standing};
use super::target::Target;
use heaptide_judge::report::Health;

/// A load of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loaded {
    /// All of it is in use.
    pub(super) is_successful: bool,
    /// Unix time of the newest one that was.
    pub(super) success_at: f64,
}

/// The state of the metrics.
#[derive(Debug, Default)]
pub(super) struct MetricsState {
    /// By name.
    pub(super) targets: BTreeMap<String, Target>,
    pub(super) alerts: BTreeMap<(String, &'static str), u64>,
    pub(super) attach_errors: BTreeMap<(String, &'static str), u64>,
    /// Figures of the agent from the newest report of any target. They outlive the targets.
    pub(super) agent: Health,
    /// Connections to the metrics server that were closed without a response.
    pub(super) refused_connections: u64,
    pub(super) standing: Standing,
    /// The newest load of a configuration. `None`: there is none.
    pub(super) loaded: Option<Loaded>,
    /// Whether each process has series of its own.
    pub(super) with_processes: bool,
}

impl MetricsState {
    /// Sets the configured targets. They have series without a process, too.
    pub(super) fn declare(&mut self, declared: Vec<Declared>) {
        for target in self.targets.values_mut() {
            target.declared = None;
        }
        for one in declared {
            let target = self
                .targets
                .entry(one.name.clone())
                .or_insert_with(|| Target::new(&one.name));
            target.declared = Some(one);
        }
        self.drop_unused();
    }

    /// Removes targets that have neither a process nor an entry in the configuration.
    pub(super) fn drop_unused(&mut self) {
        self.targets
            .retain(|_, target| target.declared.is_some() || target.processes().len() > 0);
    }

    /// Number of processes of all targets.
    pub(super) fn processes(&self) -> u64 {
        self.targets.values().map(Target::observed).sum()
    }
}
