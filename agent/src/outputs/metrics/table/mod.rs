//! The tables of metrics: name, help, kind and a function for the samples. A new metric is an entry here and a row in
//! `docs/metrics.md`.

mod agent;
mod process;
mod target;

use super::samples::{Kind, Samples};

pub(super) use self::agent::AGENT;
pub(super) use self::process::PROCESS;
pub(super) use self::target::TARGET;

/// A metric that is computed from `T`.
pub(super) struct Metric<T> {
    /// Without prefix and `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: fn(&T, &mut Samples),
}

const fn gauge<T>(
    name: &'static str,
    help: &'static str,
    samples: fn(&T, &mut Samples),
) -> Metric<T> {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
        samples,
    }
}

const fn counter<T>(
    name: &'static str,
    help: &'static str,
    samples: fn(&T, &mut Samples),
) -> Metric<T> {
    Metric {
        name,
        help,
        kind: Kind::Counter,
        samples,
    }
}
