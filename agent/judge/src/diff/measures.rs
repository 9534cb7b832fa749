//! Bytes that one finding keeps per event, with the errors that are known.

use crate::report::{Basis, Cause, Finding};

use super::result::{Amount, Unit};
use super::run::Run;

/// Systematic errors, as a part of the amount: blocks that are all counted, and estimated ones.
const COUNTED: f64 = 0.01;
const SAMPLED: f64 = 0.1;
/// The same for a report that does not say how exact it is.
const NOT_SAID: f64 = 0.15;
/// The same for a mean over requests of all kinds, whose mixture differs.
const MIXTURE: f64 = 0.05;
/// The same if the bytes are those by which the process or its heap grew.
const OF_PROCESS: f64 = 0.35;
/// The same for growth per second.
const PER_SECOND: f64 = 0.1;
/// The same for bytes that a rate and the traffic give.
const FROM_RATE: f64 = 0.25;
/// Systematic errors in bytes: rounding of sizes, and the table of a container.
const ROUNDING: f64 = 8.0;
const TABLE: f64 = 16.0;

/// An amount with its systematic error.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    pub(super) amount: Amount,
    pub(super) systematic: f64,
}

/// The part of the events that keep something.
#[derive(Clone, Copy)]
pub(super) struct Often {
    pub(super) ratio: f64,
    pub(super) error: f64,
}

/// What an amount of a single finding is counted per, and the amount.
pub(super) fn of(run: &Run, finding: &Finding) -> (Unit, Amount) {
    let unit = match finding.cause {
        Cause::Background => Unit::Second,
        Cause::TokenKeyed | Cause::Mixed => Unit::NewToken,
        _ => Unit::Request,
    };
    let amount = measure(run, finding, unit).map(|measure| measure.amount);
    let none = Amount {
        bytes: 0.0,
        error: 0.0,
        is_lower_bound: true,
    };
    (unit, amount.unwrap_or(none))
}

/// The amount of a finding in a given unit.
pub(super) fn of_unit(run: &Run, finding: &Finding, unit: Unit) -> (Unit, Option<Amount>) {
    (
        unit,
        measure(run, finding, unit).map(|measure| measure.amount),
    )
}

/// The sum over several findings of one run.
pub(super) fn sum(run: &Run, findings: &[&Finding], unit: Unit) -> Option<Measure> {
    let mut all = findings.iter().map(|one| measure(run, one, unit));
    let mut sum = all.next()??;
    for one in all {
        let one = one?;
        sum.amount.bytes += one.amount.bytes;
        sum.amount.error = sum.amount.error.hypot(one.amount.error);
        sum.amount.is_lower_bound |= one.amount.is_lower_bound;
        sum.systematic += one.systematic;
    }
    Some(sum)
}

pub(super) fn measure(run: &Run, finding: &Finding, unit: Unit) -> Option<Measure> {
    let precision = finding.precision.unwrap_or_default();
    let (bytes, error) = match unit {
        Unit::NewToken => (
            finding.retained_bytes_per_new_token,
            precision.per_new_token,
        ),
        Unit::RepeatToken => (
            finding.retained_bytes_per_repeat_token,
            precision.per_repeat_token,
        ),
        Unit::Request => (finding.retained_bytes_per_request, precision.per_request),
        Unit::Second => (finding.growth_bytes_per_second, precision.per_second),
        Unit::KeptToken => kept_token(finding)?,
        Unit::TokenRequest => token_request(finding)?,
        Unit::Entry => (entry(finding)?, 0.0),
    };
    // The rate, and so its error, depends on the traffic; entries do not.
    let error = match often(finding).filter(|_| entry(finding).is_some()) {
        Some(often) if !matches!(unit, Unit::Second | Unit::Entry) => {
            bytes * often.error / often.ratio
        }
        _ => error,
    };
    let relative = systematic(finding, unit);
    let fixed = if unit == Unit::Entry { TABLE } else { ROUNDING };
    let is_part = finding.precision.is_some_and(|one| one.is_part);
    let is_lower_bound = match unit {
        // What known tokens do not keep is not in it.
        Unit::KeptToken => is_part,
        _ => finding.retained_is_lower_bound || is_part,
    };
    if bytes > 0.0 || matches!(unit, Unit::RepeatToken | Unit::Second) {
        return valid(Measure {
            amount: Amount {
                bytes: bytes.max(0.0),
                error: error.max(0.0),
                is_lower_bound,
            },
            systematic: relative * bytes.max(0.0) + fixed,
        });
    }
    // A single block that grows has no bytes per event.
    let events = run.events_per_second(&finding.route, finding.cause);
    let bytes = finding.growth_bytes_per_second / events;
    valid(Measure {
        amount: Amount {
            bytes,
            error: precision.per_second.max(0.0) / events,
            is_lower_bound: finding.retained_is_lower_bound,
        },
        systematic: FROM_RATE * bytes + fixed,
    })
    .filter(|_| events > 0.0 && bytes > 0.0)
}

/// A report is a file that anyone may have written.
fn valid(measure: Measure) -> Option<Measure> {
    let Amount { bytes, error, .. } = measure.amount;
    let is_valid = [bytes, error, measure.systematic]
        .iter()
        .all(|value| value.is_finite() && (0.0..1e18).contains(value));
    is_valid.then_some(measure)
}

fn systematic(finding: &Finding, unit: Unit) -> f64 {
    let by_basis = match (finding.precision, finding.basis) {
        (Some(precision), _) if precision.is_of_process => OF_PROCESS,
        (None, Basis::Container) if unit == Unit::Entry => COUNTED,
        (None, _) => NOT_SAID,
        (_, Basis::Blocks) if finding.retained_bytes_error > 0 => SAMPLED,
        (_, Basis::Blocks) => COUNTED,
        (_, Basis::Container) if unit == Unit::Entry => COUNTED,
        (_, Basis::Container | Basis::Profile) => SAMPLED,
        (_, Basis::Collector | Basis::Process) => OF_PROCESS,
    };
    let by_unit = match unit {
        Unit::Request => MIXTURE,
        Unit::Second => PER_SECOND,
        _ => 0.0,
    };
    by_basis.max(by_unit)
}

/// Bytes and error of each request with a new token that keeps anything. `None`: it is not known which do.
pub(super) fn kept_token(finding: &Finding) -> Option<(f64, f64)> {
    let precision = finding.precision?;
    let (keeping, all) = (precision.keeping_tokens as f64, finding.new_tokens as f64);
    let counted = finding.basis == Basis::Blocks && finding.retained_bytes_error == 0;
    let bytes = finding.retained_bytes_per_new_token * all / keeping;
    let is_known = counted && keeping > 0.0 && keeping <= all && bytes > 0.0;
    is_known.then_some((bytes, precision.per_keeping_token))
}

/// Bytes and error of each request with a token: the weighted mean of both classes.
pub(super) fn token_request(finding: &Finding) -> Option<(f64, f64)> {
    let precision = finding.precision?;
    let (new, repeat) = (
        finding.retained_bytes_per_new_token,
        finding.retained_bytes_per_repeat_token,
    );
    let (one, other) = (precision.per_new_token, precision.per_repeat_token);
    let is_known =
        finding.basis == Basis::Blocks && [new, repeat, one, other].iter().all(|v| *v > 0.0);
    let weight = other * other / (one * one + other * other);
    is_known.then(|| {
        (
            new * weight + repeat * (1.0 - weight),
            one * other / one.hypot(other),
        )
    })
}

/// Bytes per entry of a container, with what the entry refers to.
pub(super) fn entry(finding: &Finding) -> Option<f64> {
    let container = finding.container.as_ref()?;
    let each = container.bytes_per_entry.filter(|each| *each > 0.0)?;
    (finding.basis == Basis::Container && often(finding).is_some()).then_some(each)
}

/// Bytes per event of a container whose entries are counted.
pub(super) fn per_event(finding: &Finding) -> Option<f64> {
    let bytes = entry(finding)? * often(finding)?.ratio;
    bytes.is_finite().then_some(bytes)
}

/// How often an event keeps something.
pub(super) fn often(finding: &Finding) -> Option<Often> {
    if let (Some(container), Basis::Container) = (&finding.container, finding.basis) {
        let ratio = container
            .entries_per_new_token
            .or(container.entries_per_request)?;
        let gained = container
            .entries_end
            .saturating_sub(container.entries_start);
        let n = gained.max(1) as f64;
        return (ratio > 0.0).then(|| Often {
            ratio,
            error: ratio * ((1.0 - ratio).max(0.02) / n).sqrt(),
        });
    }
    kept_token(finding)?;
    let (keeping, all) = (
        finding.precision?.keeping_tokens as f64,
        finding.new_tokens as f64,
    );
    let ratio = keeping / all;
    Some(Often {
        ratio,
        error: (ratio * (1.0 - ratio) / all).sqrt(),
    })
}
