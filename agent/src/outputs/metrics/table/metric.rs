//! An entry of the tables.

use crate::outputs::metrics::samples::{Kind, Samples};

/// A metric that is computed from `T`.
pub(in crate::outputs::metrics) struct Metric<T> {
    /// Without prefix and `_total`.
    pub(in crate::outputs::metrics) name: &'static str,
    pub(in crate::outputs::metrics) help: &'static str,
    pub(in crate::outputs::metrics) kind: Kind,
    pub(in crate::outputs::metrics) samples: fn(&T, &mut Samples),
}

pub(super) const fn gauge<T>(
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

pub(super) const fn counter<T>(
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
