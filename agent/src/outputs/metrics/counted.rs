//! Counters of a target: sums over its processes, also those that have ended. Without the ended ones a counter would
//! decrease when a worker is replaced, and Prometheus would take that for a restart of all of them.

use std::collections::BTreeMap;

use heaptide_judge::report::{Health, Report, RouteSummary};

/// Counters of some processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    /// By route label.
    pub(super) requests: BTreeMap<String, Requests>,
    /// The fields that count.
    pub(super) health: Health,
}

/// Requests by token class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    pub(super) new: u64,
    pub(super) repeat: u64,
    pub(super) none: u64,
}

impl Counted {
    /// Adds a process. `label` is the label of a route.
    pub(super) fn add(&mut self, report: &Report, mut label: impl FnMut(&str) -> String) {
        for route in &report.routes {
            self.requests
                .entry(label(&route.route))
                .or_default()
                .add(route);
        }
        self.health.add(&report.health);
    }
}

impl Requests {
    fn add(&mut self, route: &RouteSummary) {
        let known = route.new_tokens.saturating_add(route.repeat_tokens);
        self.new += route.new_tokens;
        self.repeat += route.repeat_tokens;
        self.none += route.requests.saturating_sub(known);
    }
}
