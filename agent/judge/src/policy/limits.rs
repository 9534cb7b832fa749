//! Lower and upper limits of what a finding keeps.

use crate::report::{Basis, Finding};

/// One-sided quantile of the normal distribution for 95 %.
const NORMAL: f64 = 1.645;
/// Minimum relative standard error of bytes that are estimated from samples or sizes of entries.
const ESTIMATED: f64 = 0.1;
/// Relative standard error of a growth rate without a forecast. With one, the forecast has it.
const RATE: f64 = 0.25;

/// A figure with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
}

impl Limits {
    fn around(value: f64, error: f64) -> Self {
        Self {
            low: (value * (1.0 - NORMAL * error)).max(0.0),
            value,
            high: value * (1.0 + NORMAL * error),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            low: self.low + other.low,
            value: self.value + other.value,
            high: self.high + other.high,
        }
    }
}

/// The total of several findings. Different blocks are added up. The same memory may be found twice by different evidence:
/// as blocks, and as the entries of a container. So for the lower end only the largest counts; the upper end is that of
/// the sum.
pub(super) fn total<'f>(
    findings: impl Iterator<Item = &'f Finding>,
    of: impl Fn(&Finding) -> Limits,
) -> Limits {
    let (mut blocks, mut most, mut high) = (Limits::default(), Limits::default(), 0.0);
    for finding in findings {
        let one = of(finding);
        high += one.high;
        if finding.basis == Basis::Blocks {
            blocks = blocks.and(one);
        } else if one.low > most.low {
            most = one;
        }
    }
    let largest = if blocks.low >= most.low { blocks } else { most };
    Limits { high, ..largest }
}

/// Growth of a finding, bytes per second. The interval is that of the forecast.
pub(super) fn growth(finding: &Finding) -> Limits {
    let rate = finding.growth_bytes_per_second.max(0.0);
    match finding.time_to_oom_seconds {
        Some(oom) if oom.median > 0.0 && oom.early > 0.0 => Limits {
            value: rate,
            low: oom
                .late
                .map_or(0.0, |late| rate * (oom.median / late).min(1.0)),
            high: rate * (oom.median / oom.early).max(1.0),
        },
        _ => Limits::around(rate, RATE),
    }
}

/// What a finding keeps per request or token, estimated as `value`. How many of the requests keep something is partly
/// chance, so a few of them tell less.
pub(super) fn kept(finding: &Finding, value: f64) -> Limits {
    let retained = finding.retained_bytes.max(1) as f64;
    let sampled = finding.retained_bytes_error as f64 / retained;
    let is_counted = finding.basis == Basis::Blocks && finding.retained_bytes_error == 0;
    let measured = if is_counted {
        0.0
    } else {
        sampled.max(ESTIMATED)
    };
    let each = finding
        .retained_bytes_per_new_token
        .max(finding.retained_bytes_per_request);
    let holders = (retained / each.max(1.0)).max(1.0);
    Limits::around(value.max(0.0), measured.hypot(1.0 / holders.sqrt()))
}
