//! What the daemon tells the metrics besides reports: targets, their processes, and whether it works.

use std::collections::BTreeMap;

/// A target of the configuration.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its overhead budget as a ratio.
    pub budget: Option<f64>,
}

/// Processes of a target.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Observed ones.
    pub observed: u64,
    /// Those that match and cannot be observed, by reason.
    pub failing: BTreeMap<&'static str, u64>,
    /// Those that match and are above the maximum.
    pub left_out: u64,
}

/// Whether heaptide works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why heaptide cannot work. `None`: it can.
    pub unhealthy: Option<String>,
    /// Why nothing is observed although there are targets. `None`: something is, or there are none.
    pub idle: Option<String>,
}
