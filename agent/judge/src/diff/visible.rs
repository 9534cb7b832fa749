//! Whether a run would have seen a leak that only the other run has.

use crate::findings::units::{bytes, number};
use crate::report::{Basis, Cause, Finding, FindingState};

use super::matching::is_same_code;
use super::measures;
use super::result::Unit;
use super::run::Run;

/// Expected events that keep something above which a leak is found: three times what the gates need.
const EVENTS: f64 = 60.0;
/// Minimum growth relative to what could have been missed.
const CLEAR: f64 = 1.25;
/// Minimum seconds in which a container that grows is found.
const CONTAINER_SECONDS: f64 = 30.0;
/// Requests per leaking one that can be missed in a bound: minus the logarithm of its risk.
const MISSED: f64 = 3.0;
/// How much more than a bounded cache holds a leak must keep to be more than that cache.
const BEYOND_CACHE: f64 = 1.5;

/// Whether the run `there` would have seen the leak `one` of the run `here`: how, or why not.
pub(super) fn would_see(here: &Run, there: &Run, one: &Finding) -> Result<String, String> {
    let which = there.which;
    if let Some(said) = benign(there, one) {
        return said;
    }
    if there.has_too_little_evidence() {
        let why: String = there.report.reason.chars().take(300).collect();
        return Err(format!("the {which} run has too little evidence: {why}"));
    }
    if !there.is_whole() {
        return Err(format!(
            "the {which} run found something else, and does not say that it saw all memory"
        ));
    }
    let events = there.events(&one.route, one.cause);
    if one.cause != Cause::Background && events < EVENTS {
        return Err(format!(
            "only {} such requests came in the {which} run",
            number(events)
        ));
    }
    let expected = expected(here, there, one);
    let keeping = keeping(here, there, one);
    let Some(missed) = there.missed() else {
        return Err(format!(
            "the {which} run does not say how much it could have missed"
        ));
    };
    if expected > CLEAR * missed {
        return Ok(format!(
            "the {which} run would have grown by {} per second, and could have missed {}",
            bytes(expected),
            bytes(missed)
        ));
    }
    if keeping >= EVENTS {
        return Ok(format!(
            "the {which} run followed about {} such events, and nothing was kept",
            number(keeping)
        ));
    }
    Err(format!(
        "the {which} run could have missed growth of {} per second, and this would be {}",
        bytes(missed),
        bytes(expected)
    ))
}

/// What the run `there` says about the same code, if it found it to be no leak.
fn benign(there: &Run, one: &Finding) -> Option<Result<String, String>> {
    let findings = there.report.findings.iter().take(super::run::MOST_FINDINGS);
    let known = findings
        .filter(|other| other.state == FindingState::None)
        .find(|other| is_same_code(one, other))?;
    let which = there.which;
    match known.cause {
        Cause::BoundedCache | Cause::WarmUp => {
            let (kept, held) = (one.retained_bytes as f64, known.retained_bytes as f64);
            if kept > BEYOND_CACHE * held && held > 0.0 {
                return Some(Ok(format!(
                    "in the {which} run the same code holds {} and evicts or stops",
                    bytes(held)
                )));
            }
            Some(Err(format!(
                "in the {which} run the same code is a bounded cache or a warm-up, and what is kept here is not more than it \
                 may hold"
            )))
        }
        Cause::WorkingSet | Cause::AllocatorRetention => None,
        _ => Some(Err(format!(
            "in the {which} run the same code grew too, with too little evidence for a suspicion"
        ))),
    }
}

/// Bytes per second by which the run `there` would grow at least, with its own traffic.
fn expected(here: &Run, there: &Run, one: &Finding) -> f64 {
    let seconds = there.report.window.seconds.max(1.0);
    let least = |unit| {
        let (_, amount) = measures::of_unit(here, one, unit);
        amount.map_or(0.0, |amount| (amount.bytes - 2.0 * amount.error).max(0.0))
    };
    let [all, new, repeat] = there.traffic(&one.route);
    if let Some(each) = measures::per_event(one) {
        return each * there.events(&one.route, one.cause) / seconds;
    }
    let per_run = match one.cause {
        Cause::Background => least(Unit::Second) * seconds,
        Cause::TokenKeyed => least(Unit::NewToken) * new,
        Cause::Mixed => least(Unit::NewToken) * new + least(Unit::RepeatToken) * repeat,
        Cause::Indeterminate if one.retained_bytes_per_new_token > 0.0 => {
            (least(Unit::Request) * all).min(least(Unit::NewToken) * new)
        }
        _ => least(Unit::Request) * all,
    };
    per_run / seconds
}

/// Events of the run `there` that would have kept something where it follows events one by one. 0: it does not, or it
/// is not known.
fn keeping(here: &Run, there: &Run, one: &Finding) -> f64 {
    let events = there.events(&one.route, one.cause);
    if let (Some(container), Basis::Container) = (&one.container, one.basis) {
        let findings = &there.report.findings;
        let bound = there.report.bound;
        let counts = bound.is_some_and(|bound| bound.counts_containers && bound.is_whole)
            || findings.iter().any(|other| other.basis == Basis::Container);
        let each = container
            .entries_per_new_token
            .or(container.entries_per_request);
        let long = there.report.window.seconds >= CONTAINER_SECONDS;
        return if counts && long && each.is_some_and(f64::is_finite) {
            each.unwrap_or(0.0) * events
        } else {
            0.0
        };
    }
    let one_by_one = there.report.bound.and_then(|bound| bound.one_in_requests);
    let (Some(fewest), Basis::Blocks) = (one_by_one, one.basis) else {
        return 0.0;
    };
    if there.report.health.sampled_out > 0 {
        // Few of the blocks were followed.
        return 0.0;
    }
    // A window may cover a part of the observation only.
    let all = there.report.window.requests.max(1) as f64;
    let followed = (fewest * MISSED / all).clamp(0.0, 1.0);
    let often = match one.precision {
        Some(precision) if precision.keeping_tokens > 0 && one.cause == Cause::TokenKeyed => {
            precision.keeping_tokens as f64 / one.new_tokens.max(1) as f64
        }
        // An event may keep several blocks.
        _ => 0.5 * one.blocks as f64 / here.events(&one.route, one.cause).max(1.0),
    };
    events * followed * often.clamp(0.0, 1.0)
}
