//! The state of the metrics: the newest report of each target, and counters of the agent.

use std::collections::BTreeMap;

use super::target::Target;
use heaptide_judge::report::Health;

/// The state of the metrics.
#[derive(Debug, Default)]
pub(super) struct MetricsState {
    pub(super) targets: BTreeMap<u32, Target>,
    pub(super) alerts: BTreeMap<(String, &'static str), u64>,
    pub(super) attach_errors: BTreeMap<String, u64>,
    /// Figures of the agent from the newest report of any target. They outlive the targets.
    pub(super) agent: Health,
    /// Connections to the metrics server that were closed without a response.
    pub(super) refused_connections: u64,
    pub(super) unhealthy: Option<String>,
}
