//! What the metrics are made from: the newest report of each target, and the counters of the agent.

use std::collections::BTreeMap;

use super::target::Target;
use heaptide_judge::report::Health;

/// What the series are made from.
#[derive(Debug, Default)]
pub(super) struct MetricsState {
    pub(super) targets: BTreeMap<u32, Target>,
    pub(super) alerts: BTreeMap<(String, &'static str), u64>,
    pub(super) attach_errors: BTreeMap<String, u64>,
    /// What the newest report of any target says of the agent: it outlives the targets.
    pub(super) agent: Health,
    pub(super) unhealthy: Option<String>,
}
