//! How much two runs keep per event, and whether the amounts differ.
//!
//! Amounts are compared per event, so that length and traffic of the runs do not matter. Where it is known which requests
//! keep something, the bytes of each of those are compared, because tokens that the service knew before the attach look new,
//! keep nothing, and lower the mean of a short run more than that of a long one.

use crate::findings::units::bytes;
use crate::report::{Basis, Cause, Finding};

use super::matching::Group;
use super::measures::{Measure, entry, kept_token, of, often, sum, token_request};
use super::result::{Amount, Kind, Unit};
use super::run::Run;

/// Standard errors of a difference. More than usual, because sizes have heavy tails and a false difference is as bad as a
/// false alarm.
const SURE: f64 = 4.0;
/// Part by which the frequency of keeping may differ because of tokens that were known before the attach.
const KNOWN_TOKENS: f64 = 0.25;
/// Part by which a frequency that is not affected by those may differ.
const FREQUENCY: f64 = 0.05;
/// Part by which the shares of new tokens may differ for a comparison per request with an unknown cause.
const SHARES: f64 = 0.1;

/// The result for one leak.
pub(super) struct Compared {
    pub(super) kind: Kind,
    pub(super) reason: String,
    pub(super) unit: Unit,
    pub(super) before: Option<Amount>,
    pub(super) after: Option<Amount>,
    pub(super) resolution: Option<f64>,
}

/// Compares the amounts of one leak.
pub(super) fn compared(a: &Run, b: &Run, group: &Group) -> Compared {
    let all: Vec<&Finding> = group.before.iter().chain(&group.after).copied().collect();
    let single = group.before.len() == 1 && group.after.len() == 1;
    let (unit, doubt) = unit_for(a, b, &all, single);
    let (was, is) = (sum(a, &group.before, unit), sum(b, &group.after, unit));
    let said = |kind, reason: String, resolution| Compared {
        kind,
        reason,
        unit,
        before: was.map(|one| one.amount),
        after: is.map(|one| one.amount),
        resolution,
    };
    if let Some(doubt) = doubt {
        return said(Kind::CannotTell, doubt, None);
    }
    let (Some(one), Some(other)) = (was, is) else {
        let doubt = "one of the runs does not know how much is kept per event".to_owned();
        return said(Kind::CannotTell, doubt, None);
    };
    let (kind, reason, resolution) = difference(one, other);
    let mut out = said(kind, reason, Some(resolution));
    if unit == Unit::NewToken && kind == Kind::Same && all.iter().all(|f| f.cause == Cause::Mixed) {
        repeats(a, b, group, &mut out);
    }
    if single && let (Some(before), Some(after)) = (group.before.first(), group.after.first()) {
        frequency(before, after, &mut out);
    }
    out
}

/// The unit in which findings of one leak can be compared, or why they cannot be.
fn unit_for(a: &Run, b: &Run, all: &[&Finding], single: bool) -> (Unit, Option<String>) {
    let has = |cause| all.iter().any(|one| one.cause == cause);
    let only = |causes: &[Cause]| all.iter().all(|one| causes.contains(&one.cause));
    let (first, shown) = match all.first() {
        Some(first) => (first, of(a, first).0),
        None => {
            return (
                Unit::Request,
                Some("there is nothing to compare".to_owned()),
            );
        }
    };
    if all.iter().any(|one| one.basis == Basis::Process) {
        let doubt = "one of the runs knows only how much the whole process grew, so the amounts cannot be compared";
        return (shown, Some(doubt.to_owned()));
    }
    if all.iter().any(|one| one.route != first.route) {
        let doubt = "the runs attribute it to different routes, so the amounts cannot be compared";
        return (shown, Some(doubt.to_owned()));
    }
    if only(&[Cause::Background]) {
        return (Unit::Second, None);
    }
    let certain: Vec<Cause> = [
        Cause::TokenKeyed,
        Cause::PerRequest,
        Cause::Mixed,
        Cause::Background,
    ]
    .into_iter()
    .filter(|cause| has(*cause))
    .collect();
    if certain.len() > 1 {
        let doubt = "the runs found different causes, so the amounts cannot be compared";
        return (shown, Some(doubt.to_owned()));
    }
    if single && all.iter().all(|one| entry(one).is_some()) {
        return (Unit::Entry, None);
    }
    let counts = |one: &&Finding| kept_token(one).is_some();
    if single && !has(Cause::PerRequest) && !has(Cause::Mixed) && all.iter().all(counts) {
        return (Unit::KeptToken, None);
    }
    if only(&[Cause::TokenKeyed, Cause::Mixed]) {
        return (Unit::NewToken, None);
    }
    let by_class = |one: &&Finding| token_request(one).is_some();
    if only(&[Cause::PerRequest]) && all.iter().all(by_class) {
        return (Unit::TokenRequest, None);
    }
    let (one, other) = (a.new_share(&first.route), b.new_share(&first.route));
    if !only(&[Cause::PerRequest]) && (one - other).abs() > SHARES * one.max(other) {
        let doubt = format!(
            "the cause is not known in both runs, and their shares of new tokens differ ({:.0} % and {:.0} %)",
            100.0 * one,
            100.0 * other
        );
        return (Unit::Request, Some(doubt));
    }
    (Unit::Request, None)
}

/// Whether the amounts differ, why, and the smallest difference that would have been told.
fn difference(was: Measure, is: Measure) -> (Kind, String, f64) {
    let (a, b) = (was.amount, is.amount);
    let resolution = SURE * a.error.hypot(b.error) + was.systematic.max(is.systematic);
    let change = b.bytes - a.bytes;
    let lower = |which: &str| {
        format!("the {which} amount is a lower bound, because not all that is kept was seen")
    };
    let (kind, reason) = match (a.is_lower_bound, b.is_lower_bound) {
        (false, false) if change.abs() > resolution => told(change, resolution),
        (true, false) if change < -resolution => told(change, resolution),
        (false, true) if change > resolution => told(change, resolution),
        (false, false) if resolution >= a.bytes.max(b.bytes) => (
            Kind::CannotTell,
            format!(
                "the amounts are too uncertain: only a difference above {} would be seen",
                bytes(resolution)
            ),
        ),
        (false, false) => (
            Kind::Same,
            format!("a difference above {} would be seen", bytes(resolution)),
        ),
        (true, true) => (
            Kind::CannotTell,
            "both amounts are lower bounds, because not all that is kept was seen".to_owned(),
        ),
        (true, false) => (Kind::CannotTell, lower("first")),
        (false, true) => (Kind::CannotTell, lower("second")),
    };
    (kind, reason, resolution)
}

fn told(change: f64, resolution: f64) -> (Kind, String) {
    let (kind, word) = if change > 0.0 {
        (Kind::Grown, "more")
    } else {
        (Kind::Shrunk, "less")
    };
    let reason = format!(
        "{} {word}; a difference above {} would be seen",
        bytes(change.abs()),
        bytes(resolution)
    );
    (kind, reason)
}

/// What requests with repeated tokens keep, if the cause is `mixed`.
fn repeats(a: &Run, b: &Run, group: &Group, out: &mut Compared) {
    let unit = Unit::RepeatToken;
    let (was, is) = (sum(a, &group.before, unit), sum(b, &group.after, unit));
    let (Some(was), Some(is)) = (was, is) else {
        return;
    };
    let (kind, reason, resolution) = difference(was, is);
    if matches!(kind, Kind::Grown | Kind::Shrunk) {
        *out = Compared {
            kind,
            reason,
            unit,
            before: Some(was.amount),
            after: Some(is.amount),
            resolution: Some(resolution),
        };
    }
}

/// Whether events keep something more or less often. The bytes of each were compared before.
fn frequency(before: &Finding, after: &Finding, out: &mut Compared) {
    if !matches!(out.unit, Unit::Entry | Unit::KeptToken) || out.kind == Kind::CannotTell {
        return;
    }
    let (Some(was), Some(is)) = (often(before), often(after)) else {
        return;
    };
    let by_token = [before.cause, after.cause].contains(&Cause::TokenKeyed);
    let part = if by_token || before.cause != after.cause {
        KNOWN_TOKENS
    } else {
        FREQUENCY
    };
    let allowed = part * was.ratio.max(is.ratio) + SURE * was.error.hypot(is.error);
    let change = is.ratio - was.ratio;
    if change.abs() <= allowed {
        return;
    }
    let kind = if change > 0.0 {
        Kind::Grown
    } else {
        Kind::Shrunk
    };
    let said = format!(
        "{:.0} % of the events keep something in the first run and {:.0} % in the second",
        100.0 * was.ratio,
        100.0 * is.ratio
    );
    if by_token || !matches!(out.kind, Kind::Same) && out.kind != kind {
        out.reason = if by_token {
            format!(
                "{said}, which may be due to tokens that the service knew before it was observed"
            )
        } else {
            format!("{said}, while the bytes of each changed the other way")
        };
        out.kind = Kind::CannotTell;
    } else {
        out.kind = kind;
        out.reason = said;
    }
}
