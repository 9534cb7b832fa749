//! The samples of one metric, and their labels.

use std::collections::BTreeMap;

use crate::outputs::format::printable;

/// The label value beyond a maximum number.
pub(super) const OTHER: &str = "other";
/// Maximum length of a label value, characters.
const LABEL: usize = 200;

/// A label value: bounded, without control characters. The encoder escapes the rest.
pub(super) fn label(text: &str) -> String {
    printable(text, LABEL).into_owned()
}

/// The two kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The samples of one metric. Values with the same labels are added, so no series occurs twice.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) base: Labels,
    pub(super) of: BTreeMap<Labels, f64>,
}

impl Samples {
    pub(super) fn push(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let own = labels.iter().map(|(name, value)| (*name, label(value)));
        let labels = self.base.iter().cloned().chain(own).collect();
        *self.of.entry(labels).or_default() += value;
    }
}
