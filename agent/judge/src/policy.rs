//! The policies of `heaptide check`: whether the evidence shows that a service keeps to them. Pure.
//!
//! A policy is passed only if the upper limit of what could have been missed ([`Bound`](crate::report::Bound)) keeps to it,
//! and failed only if the lower limit of what was found does not. Else it is undecided.

pub mod baseline;
mod evidence;
mod limits;

use std::fmt;

use crate::findings::units::{bytes, duration, number};
use crate::report::{Cause, Finding, FindingState, Lack, Report, Verdict};

use evidence::{Evidence, Rate};
use limits::{growth, kept, total};

/// Seconds of a minute: growth is given per minute.
const MINUTE: f64 = 60.0;

/// What a service must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// No leak and no suspicion.
    Verdict,
    /// Growth of the service, bytes per second.
    MaxGrowth(f64),
    /// Bytes that a request keeps, by route.
    MaxKeptPerRequest(f64),
    /// Bytes that a request with a new token keeps, by route.
    MaxKeptPerToken(f64),
}

impl Policy {
    /// Its name: that of its flag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::MaxGrowth(_) => "max-growth",
            Self::MaxKeptPerRequest(_) => "max-kept-per-request",
            Self::MaxKeptPerToken(_) => "max-kept-per-token",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict => f.write_str("no leak and no suspicion"),
            Self::MaxGrowth(limit) => write!(f, "growth of at most {}/min", bytes(limit * MINUTE)),
            Self::MaxKeptPerRequest(limit) => {
                write!(f, "at most {} kept per request", bytes(*limit))
            }
            Self::MaxKeptPerToken(limit) => {
                write!(f, "at most {} kept per new token", bytes(*limit))
            }
        }
    }
}

/// Whether a policy is kept to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ruling {
    /// The evidence shows that it is.
    Passed,
    /// The evidence shows neither.
    Undecided {
        /// Seconds of further observation that would decide it, if nothing grows. `None`: not known.
        observe_seconds: Option<f64>,
    },
    /// The evidence shows that it is not.
    Failed {
        /// It fails by confirmed findings alone.
        confirmed: bool,
    },
}

/// The result for one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The policy's name: that of its flag.
    pub name: &'static str,
    /// What it demands.
    pub demand: String,
    /// Whether it is kept to.
    pub ruling: Ruling,
    /// Why, in one or two sentences.
    pub said: String,
    /// The findings that it fails by, worst first.
    pub findings: Vec<Finding>,
}

/// Judges `policies` by the reports of all processes of a service. Policies by route cover the routes that are
/// `selected`.
pub fn judge(
    policies: &[Policy],
    reports: &[Report],
    selected: &dyn Fn(&str) -> bool,
) -> Vec<Outcome> {
    let evidence = Evidence::of(reports);
    policies
        .iter()
        .map(|policy| {
            let (ruling, said, findings) = match policy {
                _ if evidence.lacks.contains(&Lack::Losses) => {
                    undecided(lack_sentence(Lack::Losses, &evidence), None)
                }
                Policy::Verdict => by_verdict(&evidence),
                Policy::MaxGrowth(limit) => by_growth(&evidence, *limit),
                Policy::MaxKeptPerRequest(limit) => {
                    by_route(&evidence, *limit, &PER_REQUEST, selected)
                }
                Policy::MaxKeptPerToken(limit) => by_route(&evidence, *limit, &PER_TOKEN, selected),
            };
            Outcome {
                name: policy.name(),
                demand: policy.to_string(),
                ruling,
                said,
                findings,
            }
        })
        .collect()
}

/// A ruling with its reason and the findings that it fails by.
type Ruled = (Ruling, String, Vec<Finding>);

fn passed(said: String) -> Ruled {
    (Ruling::Passed, said, Vec::new())
}

fn undecided(said: String, observe_seconds: Option<f64>) -> Ruled {
    let observe_seconds = observe_seconds.filter(|seconds| seconds.is_finite());
    let said = match observe_seconds {
        Some(more) => format!(
            "{said} Observe {} more to decide it, if nothing grows then.",
            duration(more.max(1.0))
        ),
        None => said,
    };
    (Ruling::Undecided { observe_seconds }, said, Vec::new())
}

fn by_verdict(evidence: &Evidence) -> Ruled {
    let has = |verdict| evidence.reports.iter().any(|one| one.verdict == verdict);
    let confirmed = has(Verdict::Leak);
    if confirmed || has(Verdict::Suspect) {
        return (
            Ruling::Failed { confirmed },
            evidence.reason.clone(),
            evidence.growing.clone(),
        );
    }
    match (evidence.unsettled(), evidence.lack()) {
        // A verdict of an earlier window stands, but memory grows again.
        (None, Some(lack)) => undecided(lack_sentence(lack, evidence), None),
        (None, None) if evidence.verdict == Some(Verdict::NoLeak) => {
            passed(evidence.reason.clone())
        }
        (None, None) => undecided(evidence.reason.clone(), None),
        (Some(report), _) => {
            let more = report.bound.and_then(|bound| bound.observe_seconds);
            // The reason names the time itself.
            let (ruling, _, findings) =
                undecided(String::new(), more.filter(|seconds| *seconds > 0.0));
            (ruling, report.reason.clone(), findings)
        }
    }
}

fn by_growth(evidence: &Evidence, limit: f64) -> Ruled {
    let per_minute = |rate: f64| format!("{} per minute", bytes(rate * MINUTE));
    let growing = &evidence.growing;
    let all = total(growing.iter(), growth);
    if all.low > limit {
        let confirmed = growing
            .iter()
            .filter(|one| one.state == FindingState::Confirmed);
        let confirmed = total(confirmed, growth).low > limit;
        let said = format!(
            "The findings grow by {}{}; {} are allowed.",
            per_minute(all.value),
            at_least(all.value, all.low, per_minute),
            per_minute(limit)
        );
        return (Ruling::Failed { confirmed }, said, growing.clone());
    }
    if let Some(lack) = evidence.lack() {
        return undecided(lack_sentence(lack, evidence), None);
    }
    let bound = evidence.bound.unwrap_or(f64::INFINITY);
    if limit <= 0.0 {
        return by_nothing_found(evidence, &per_minute(bound));
    }
    let most = bound.max(all.high);
    if most <= limit {
        return passed(format!(
            "At most {} could be growing (95 %); {} are allowed.",
            per_minute(most),
            per_minute(limit)
        ));
    }
    let said = format!(
        "Up to {} could be growing (95 %), and {} are allowed.",
        per_minute(most),
        per_minute(limit)
    );
    let more = evidence.until(bound / limit).filter(|_| growing.is_empty());
    undecided(said, more)
}

/// Nothing may be kept: no measurement can show that. It is passed if nothing was found and the verdict is `no_leak`.
fn by_nothing_found(evidence: &Evidence, unseen: &str) -> Ruled {
    if let Some(finding) = evidence.growing.first() {
        let said = format!(
            "{} grows, but not certainly by what this policy limits.",
            finding.route
        );
        return undecided(said, None);
    }
    match evidence.unsettled() {
        None if evidence.verdict == Some(Verdict::NoLeak) => passed(format!(
            "Nothing was found. At most {unseen} could have been missed (95 %)."
        )),
        _ => by_verdict(evidence),
    }
}

/// A policy by route.
struct ByRoute {
    /// What it counts.
    what: &'static str,
    /// Bytes that a finding keeps of it.
    of: fn(&Finding) -> f64,
    /// Traffic of it.
    rate: fn(&Rate) -> (u64, f64),
}

const PER_REQUEST: ByRoute = ByRoute {
    what: "request",
    of: |finding| finding.retained_bytes_per_request,
    rate: |rate| (rate.requests, rate.least_requests),
};

const PER_TOKEN: ByRoute = ByRoute {
    what: "new token",
    of: |finding| finding.retained_bytes_per_new_token,
    rate: |rate| (rate.new_tokens, rate.least_new_tokens),
};

fn by_route(
    evidence: &Evidence,
    limit: f64,
    policy: &ByRoute,
    selected: &dyn Fn(&str) -> bool,
) -> Ruled {
    let what = policy.what;
    let of_requests =
        |finding: &&Finding| finding.cause != Cause::Background && selected(&finding.route);
    let growing: Vec<&Finding> = evidence.growing.iter().filter(of_requests).collect();
    let sum = |route: &str, wanted: &dyn Fn(&Finding) -> bool| {
        let here = growing
            .iter()
            .filter(|one| one.route == route && wanted(one));
        total(here.copied(), |one| kept(one, (policy.of)(one)))
    };
    let failing = |wanted: &dyn Fn(&Finding) -> bool| -> Vec<&str> {
        let mut routes: Vec<&str> = growing.iter().map(|one| one.route.as_str()).collect();
        routes.dedup();
        let mut over: Vec<&str> = Vec::new();
        for route in routes {
            if sum(route, wanted).low > limit && !over.contains(&route) {
                over.push(route);
            }
        }
        over
    };
    let over = failing(&|_| true);
    if let Some(worst) = over.first() {
        let confirmed = !failing(&|one| one.state == FindingState::Confirmed).is_empty();
        let found = sum(worst, &|_| true);
        let said = format!(
            "{worst} keeps {} per {what}{}; {} are allowed.{}",
            bytes(found.value),
            at_least(found.value, found.low, bytes),
            bytes(limit),
            others(over.len() - 1, "fails too", "fail too")
        );
        let blamed = growing
            .iter()
            .filter(|one| over.contains(&one.route.as_str()));
        let blamed = blamed.map(|one| (*one).clone()).collect();
        return (Ruling::Failed { confirmed }, said, blamed);
    }
    if let Some(lack) = evidence.lack() {
        return undecided(lack_sentence(lack, evidence), None);
    }
    if let Some(said) = unplaced(evidence, limit, policy) {
        return undecided(said, None);
    }
    let used: Vec<(&str, f64)> = evidence
        .routes
        .iter()
        .filter(|(route, rate)| selected(route) && (policy.rate)(rate).0 > 0)
        .map(|(route, rate)| (*route, (policy.rate)(rate).1))
        .collect();
    if used.is_empty() {
        return undecided(format!("No {what} was seen on a selected route."), None);
    }
    let bound = evidence.bound.unwrap_or(f64::INFINITY);
    // The most that each could have kept unseen.
    let mut unseen: Vec<(&str, f64)> = used
        .into_iter()
        .map(|(route, rate)| (route, (bound / rate).max(sum(route, &|_| true).high)))
        .collect();
    unseen.sort_by(|a, b| b.1.total_cmp(&a.1));
    if limit <= 0.0 {
        let most = unseen.last().map_or(bound, |one| one.1);
        return by_nothing_found(evidence, &format!("{} per {what}", bytes(most)));
    }
    let open: Vec<&(&str, f64)> = unseen.iter().filter(|one| one.1 > limit).collect();
    let Some((worst, most)) = open.first() else {
        let most = unseen.first().map_or(0.0, |one| one.1);
        return passed(format!(
            "At most {} could be kept per {what} (95 %); {} are allowed.",
            bytes(most),
            bytes(limit)
        ));
    };
    let could = if most.is_finite() {
        format!(
            "{worst} could keep up to {} per {what} (95 %)",
            bytes(*most)
        )
    } else {
        format!(
            "{worst} was used too little, or only in a part of the observation, to limit what it keeps per {what}"
        )
    };
    let said = format!(
        "{could}, and {} are allowed.{} More traffic on a route, or fewer routes (--route), decide it sooner.",
        bytes(limit),
        others(open.len() - 1, "is undecided too", "are undecided too")
    );
    let grows = growing
        .iter()
        .any(|one| open.iter().any(|o| o.0 == one.route));
    undecided(said, evidence.until(most / limit).filter(|_| !grows))
}

/// Why a finding whose route is not known leaves all routes undecided: it may be on each of them.
fn unplaced(evidence: &Evidence, limit: f64, policy: &ByRoute) -> Option<String> {
    let most = |one: &Finding| kept(one, (policy.of)(one)).high;
    let open = evidence.growing.iter().find(|one| {
        let is_placed = evidence.routes.contains_key(one.route.as_str());
        one.cause != Cause::Background && !is_placed && most(one) > limit
    })?;
    Some(format!(
        "{} per {} could be kept on {}, and {} are allowed.",
        bytes(most(open)),
        policy.what,
        open.route,
        bytes(limit)
    ))
}

/// ` (at least 1.2 KiB)`, if that is not the figure itself.
fn at_least(found: f64, low: f64, figure: impl Fn(f64) -> String) -> String {
    let low = figure(low);
    if low == figure(found) {
        String::new()
    } else {
        format!(" (at least {low})")
    }
}

/// ` 2 other routes fail too.`, or nothing.
fn others(count: usize, does: &str, doing: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(" Another route {does}."),
        more => format!(" {} other routes {doing}.", number(more as f64)),
    }
}

/// Why nothing can be said.
fn lack_sentence(lack: Lack, evidence: &Evidence) -> String {
    // The report's own sentence has the figures.
    let own = evidence
        .reports
        .iter()
        .filter(|one| one.verdict == Verdict::InsufficientEvidence)
        .find(|one| one.lacks.first() == Some(&lack));
    if let Some(report) = own {
        return report.reason.clone();
    }
    match lack {
        Lack::Losses => "Too much of the evidence was lost.",
        Lack::Readings => "The runtime's heap was read too few times.",
        Lack::Time => "The observation was too short.",
        Lack::Requests => "There were too few requests.",
        Lack::UnseenHeap => {
            "The runtime's objects are in a heap that heaptide does not read, so growth among them could be missed."
        }
        Lack::Tracing => {
            "Allocations were being traced, but for too short a time or for too few requests."
        }
        Lack::Bound => "The memory of the process was read too few times.",
        Lack::Horizon => "Memory could run out before the horizon.",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
