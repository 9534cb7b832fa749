//! Compares two reports (`heaptide.diff/v1`): what is new, gone, grown or shrunk, per request and token. Pure.
//!
//! A difference is only told if both runs could have seen it, and if it exceeds what their figures allow. Everything
//! else is `cannot_tell`, with the reason.

mod amounts;
mod matching;
mod measures;
mod result;
mod run;
#[cfg(test)]
mod tests;
mod visible;

use std::fmt::Write as _;

use crate::report::{Cause, Finding, FindingState, Report};

use amounts::Compared;
use matching::{Group, Matched};
pub use result::{Amount, Change, Diff, Kind, Outcome, Place, RunSummary, SCHEMA, Unit};
use run::{MOST_FINDINGS, Run};

/// Compares two reports.
pub fn compare(before: &Report, after: &Report) -> Diff {
    let (a, b) = (Run::new(before, "first"), Run::new(after, "second"));
    let matched = matching::matched(&growing(before), &growing(after));
    let matched = moved(&a, &b, matched);
    let mut changes: Vec<Change> = Vec::new();
    let mut may_be_worse = false;
    for group in matched {
        let change = match group {
            Matched::Both(group) => both(&a, &b, &group),
            Matched::Unclear(before, after) => unclear(&a, &b, before, after),
            Matched::Before(one) => alone(&a, &b, one, true),
            Matched::After(one) => alone(&b, &a, one, false),
        };
        // What the first run kept and the second one may not have seen is at most the same.
        may_be_worse |= change.kind == Kind::CannotTell && change.state_after.is_some();
        changes.push(change);
    }
    let missed = before
        .findings
        .len()
        .max(after.findings.len())
        .saturating_sub(MOST_FINDINGS);
    may_be_worse |= missed > 0 || b.has_too_little_evidence();
    changes.sort_by_key(|change| change.kind);
    let unsure = may_be_worse || a.has_too_little_evidence();
    let outcome = outcome(&changes, unsure);
    Diff {
        schema: SCHEMA.to_owned(),
        outcome,
        reason: reason(outcome, &changes, &a, &b),
        may_be_worse,
        changes,
        notes: notes(before, after),
        before: a.summary(),
        after: b.summary(),
    }
}

/// Findings of the same route and cause that keep the same amount in other code: it was renamed or moved.
fn moved<'a>(a: &Run, b: &Run, matched: Vec<Matched<'a>>) -> Vec<Matched<'a>> {
    let (mut out, mut after) = (Vec::new(), Vec::new());
    let mut before = Vec::new();
    for group in matched {
        match group {
            Matched::Before(one) => before.push(one),
            Matched::After(one) => after.push(one),
            other => out.push(other),
        }
    }
    for one in before {
        let same = |other: &&Finding| {
            let group = Group {
                before: vec![one],
                after: vec![other],
            };
            (&one.route, one.cause) == (&other.route, other.cause)
                && amounts::compared(a, b, &group).kind == Kind::Same
        };
        match after.iter().position(same) {
            Some(at) => out.push(Matched::Both(Group {
                before: vec![one],
                after: vec![after.remove(at)],
            })),
            None => out.push(Matched::Before(one)),
        }
    }
    out.extend(after.into_iter().map(Matched::After));
    out
}

fn growing(report: &Report) -> Vec<&Finding> {
    let findings = report.findings.iter();
    let growing = findings.filter(|finding| finding.state > FindingState::None);
    growing.take(MOST_FINDINGS).collect()
}

/// A leak that both runs have.
fn both(a: &Run, b: &Run, group: &Group) -> Change {
    let Compared {
        kind,
        reason,
        unit,
        before,
        after,
        resolution,
    } = amounts::compared(a, b, group);
    let shown = group.after.first().or(group.before.first());
    // Small sites differ from run to run.
    let is_same_place = matching::have_one_main_site(group);
    let (sites_before, sites_after) =
        if is_same_place && matches!(kind, Kind::Same | Kind::CannotTell) {
            (Vec::new(), Vec::new())
        } else {
            matching::only_in_one(group)
        };
    Change {
        reason,
        unit,
        before,
        after,
        resolution,
        sites_before,
        sites_after,
        ..blank(
            kind,
            shown.copied(),
            state(&group.before),
            state(&group.after),
        )
    }
}

/// Two findings that may be the same leak, seen in different ways.
fn unclear(a: &Run, b: &Run, before: &Finding, after: &Finding) -> Change {
    let (unit, was) = measures::of(a, before);
    let (_, is) = measures::of_unit(b, after, unit);
    Change {
        reason: "it may be the same leak in both runs, but they saw it in different ways: the site, the route or the cause \
                 is not known in both"
            .to_owned(),
        unit,
        before: Some(was),
        after: is,
        sites_before: vec![(&before.site).into()],
        sites_after: vec![(&after.site).into()],
        ..blank(
            Kind::CannotTell,
            Some(after),
            Some(before.state),
            Some(after.state),
        )
    }
}

/// A leak that only the run `here` has, and the other one, `there`, does not.
fn alone(here: &Run, there: &Run, one: &Finding, is_before: bool) -> Change {
    let (unit, amount) = measures::of(here, one);
    let (kind, reason) = match visible::would_see(here, there, one) {
        Ok(why) if is_before => (Kind::Gone, why),
        Ok(why) => (Kind::New, why),
        Err(why) => (Kind::CannotTell, why),
    };
    let (before, after) = if is_before {
        (Some(one.state), None)
    } else {
        (None, Some(one.state))
    };
    let mut change = blank(kind, Some(one), before, after);
    change.reason = reason;
    change.unit = unit;
    if is_before {
        change.before = Some(amount);
        change.sites_before = one.also.iter().map(Place::from).collect();
    } else {
        change.after = Some(amount);
        change.sites_after = one.also.iter().map(Place::from).collect();
    }
    change
}

fn state(findings: &[&Finding]) -> Option<FindingState> {
    findings.iter().map(|finding| finding.state).max()
}

fn blank(
    kind: Kind,
    shown: Option<&Finding>,
    state_before: Option<FindingState>,
    state_after: Option<FindingState>,
) -> Change {
    Change {
        kind,
        reason: String::new(),
        cause: shown.map_or(Cause::Indeterminate, |one| one.cause),
        route: shown.map(|one| one.route.clone()).unwrap_or_default(),
        site: shown.map_or_else(
            || Place {
                function: String::new(),
                file: None,
                line: None,
                module: String::new(),
            },
            |one| (&one.site).into(),
        ),
        container: shown
            .and_then(|one| one.container.as_ref())
            .map(|container| container.path.clone()),
        state_before,
        state_after,
        unit: Unit::Request,
        before: None,
        after: None,
        resolution: None,
        sites_before: Vec::new(),
        sites_after: Vec::new(),
    }
}

fn outcome(changes: &[Change], unsure: bool) -> Outcome {
    let has = |kind| changes.iter().any(|change| change.kind == kind);
    if has(Kind::New) || has(Kind::Grown) {
        Outcome::Worse
    } else if has(Kind::Gone) || has(Kind::Shrunk) {
        Outcome::Better
    } else if unsure || has(Kind::CannotTell) {
        Outcome::CannotTell
    } else {
        Outcome::NoDifference
    }
}

fn reason(outcome: Outcome, changes: &[Change], a: &Run, b: &Run) -> String {
    let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
    let counts: Vec<String> = [
        (Kind::New, "new"),
        (Kind::Grown, "grown"),
        (Kind::Gone, "gone"),
        (Kind::Shrunk, "shrunk"),
        (Kind::CannotTell, "not comparable"),
        (Kind::Same, "without a difference"),
    ]
    .into_iter()
    .map(|(kind, word)| (count(kind), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let mut text = if counts.is_empty() {
        "Nothing was found to grow in either run.".to_owned()
    } else {
        let word = if changes.len() == 1 {
            "finding"
        } else {
            "findings"
        };
        format!("{} {word}: {}.", changes.len(), counts.join(", "))
    };
    if b.has_too_little_evidence() {
        text.push_str(" The second run has too little evidence, so something may be new in it.");
    } else if a.has_too_little_evidence() {
        text.push_str(" The first run has too little evidence, so something may be gone.");
    } else if outcome == Outcome::NoDifference
        && changes.is_empty()
        && let (Some(a), Some(b)) = (a.missed(), b.missed())
    {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " Growth of up to {} per second in the first run and {} in the second could have been missed.",
            crate::findings::units::bytes(a),
            crate::findings::units::bytes(b)
        );
    }
    text
}

fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            notes.push(format!(
                "the runs have different {what}: {} and {}",
                short(a),
                short(b)
            ));
        }
    };
    differ("runtimes", &before.target.runtime, &after.target.runtime);
    differ("modes", &before.target.mode, &after.target.mode);
    differ("versions of heaptide", &before.version, &after.version);
    for (report, which) in [(before, "first"), (after, "second")] {
        if report.findings.len() > MOST_FINDINGS {
            notes.push(format!(
                "of the {} findings of the {which} run only {MOST_FINDINGS} were compared",
                report.findings.len()
            ));
        }
        let growing = growing(report);
        if growing.iter().any(|finding| finding.precision.is_none()) {
            notes.push(format!(
                "the report of the {which} run does not say how exact its figures are: 15 % are assumed"
            ));
        }
    }
    notes
}

/// A string of a report that may be long.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
