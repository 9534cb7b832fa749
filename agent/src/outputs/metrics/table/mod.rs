//! The tables of metrics: name, help, kind and a function for the samples. A new metric is an entry here and a row in
//! `docs/metrics.md`.

mod agent;
mod metric;
mod process;
mod target;

pub(super) use self::agent::AGENT;
pub(super) use self::metric::Metric;
pub(super) use self::process::PROCESS;
pub(super) use self::target::TARGET;
