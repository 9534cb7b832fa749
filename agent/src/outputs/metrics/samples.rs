//! The samples of one metric, and the labels that they carry.

use std::collections::BTreeMap;

use crate::outputs::format::printable;

/// The label that takes what is beyond a cap.
pub(super) const OTHER: &str = "other";
/// Longest value of a label, characters.
const LABEL: usize = 200;

/// A value for a label: bounded, without control characters. The encoder escapes the rest.
pub(super) fn label(text: &str) -> String {
    printable(text, LABEL).into_owned()
}

/// The two kinds of metrics that are made of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The samples of one metric. Values with the same labels are added: no series comes twice.
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
