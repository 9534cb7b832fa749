//! Combines the reports of several processes of one service, such as prefork workers. Pure.

use std::cmp::Reverse;

use super::places::unknown_site;
use super::precision;
use crate::events::LimitScope;
use crate::report::{
    ContainerSummary, Finding, FindingState, ProcessSummary, Report, TimeToOom, Verdict,
};

/// Maximum number of processes in a report.
const MOST_PROCESSES: usize = 64;

/// A process with less than this part of the busiest one's requests is idle. A master process, or a worker that is not needed, has
/// too little evidence for a verdict, but does not prevent one for the service.
const IDLE: f64 = 0.05;
/// A process that was observed for less than this part of the time is new. A worker that was just replaced does not
/// prevent a verdict either, if all such processes served at most [`MOST_BY_NEW`] of the requests.
const NEW: f64 = 0.2;
const MOST_BY_NEW: f64 = 0.1;
/// Unexplained growth, as a part of the resident memory, with which a process is neither.
const GROWN: f64 = 0.05;

/// One report for all processes: the worst one, with traffic, routes and equal findings summed. `None`
/// without a report.
pub fn sum(mut reports: Vec<Report>) -> Option<Report> {
    let seconds = reports.iter().map(|report| report.window.seconds);
    let new_since = NEW * seconds.fold(0.0, f64::max);
    let requests = |from: &mut dyn Iterator<Item = &Report>| -> f64 {
        from.map(|report| report.window.requests as f64).sum()
    };
    let by_new = requests(&mut reports.iter().filter(|one| one.window.seconds < new_since));
    let new_count = by_new > MOST_BY_NEW * requests(&mut reports.iter());
    let busiest = reports.iter().map(|report| report.window.requests).max();
    let excuse = Excuse {
        idle: IDLE * busiest.unwrap_or(0) as f64,
        new_since: if new_count { 0.0 } else { new_since },
    };
    reports.sort_by_key(|report| (rank(report, excuse), Reverse(report.window.requests)));
    let processes: Vec<ProcessSummary> = reports.iter().map(process).take(MOST_PROCESSES).collect();
    share(&mut reports);
    let mut reports = reports.into_iter();
    let mut all = reports.next()?;
    if processes.len() < 2 {
        return Some(all);
    }
    for other in reports {
        add(&mut all, other);
    }
    all.processes = processes;
    Some(all)
}

/// Which processes without a verdict do not prevent one for the service.
#[derive(Clone, Copy)]
struct Excuse {
    /// Those with fewer requests.
    idle: f64,
    /// Those observed for fewer seconds.
    new_since: f64,
}

/// Order of reports of a service: `no_leak` of one process is no verdict for another one that works or grows and has none.
fn rank(report: &Report, excuse: Excuse) -> u8 {
    match report.verdict {
        Verdict::Leak => 0,
        Verdict::Suspect => 1,
        Verdict::NoLeak => 3,
        Verdict::InsufficientEvidence => {
            let is_idle = (report.window.requests as f64) < excuse.idle;
            let is_new = report.window.seconds < excuse.new_since;
            let unexplained = report
                .ledger
                .as_ref()
                .map(|one| one.unexplained_bytes as f64);
            let has_grown = unexplained.unwrap_or(0.0) > GROWN * report.memory.rss_end_bytes as f64;
            if (is_idle || is_new) && !has_grown {
                4
            } else {
                2
            }
        }
    }
}

fn process(report: &Report) -> ProcessSummary {
    let growing = report
        .findings
        .iter()
        .filter(|finding| finding.state > FindingState::None);
    ProcessSummary {
        pid: report.target.pid,
        verdict: report.verdict,
        requests: report.window.requests,
        rss_bytes: report.memory.rss_end_bytes,
        retained_bytes: growing.map(|finding| finding.retained_bytes).sum(),
    }
}

fn add(all: &mut Report, other: Report) {
    all.health.add(&other.health);
    let (sum, part) = (&mut all.window, other.window);
    sum.seconds = sum.seconds.max(part.seconds);
    sum.requests += part.requests;
    sum.new_tokens += part.new_tokens;
    sum.repeat_tokens += part.repeat_tokens;
    sum.anonymous += part.anonymous;
    // The same tokens come to several workers, so the maximum is a lower bound.
    sum.distinct_tokens = sum.distinct_tokens.max(part.distinct_tokens);
    sum.requests_seen &= part.requests_seen;
    for route in other.routes {
        match all
            .routes
            .iter_mut()
            .find(|known| known.route == route.route)
        {
            Some(known) => {
                known.requests += route.requests;
                known.new_tokens += route.new_tokens;
                known.repeat_tokens += route.repeat_tokens;
                known.retained_bytes += route.retained_bytes;
                known.p99_seconds = known.p99_seconds.max(route.p99_seconds);
                known.least_requests_per_second += route.least_requests_per_second;
                known.least_new_tokens_per_second += route.least_new_tokens_per_second;
            }
            None => all.routes.push(route),
        }
    }
    for finding in other
        .findings
        .into_iter()
        .filter(|finding| finding.state > FindingState::None)
    {
        match all.findings.iter_mut().find(|known| same(known, &finding)) {
            Some(known) => add_finding(known, &finding),
            None => all.findings.push(finding),
        }
    }
}

/// Whether two processes have the same leak: same container, or same route and cause. A worker may have too
/// little evidence for a cause.
pub(super) fn same(a: &Finding, b: &Finding) -> bool {
    let path = |finding: &Finding| {
        finding
            .container
            .as_ref()
            .map(|container| (container.path.clone(), container.kind.clone()))
    };
    let unknown = unknown_site().function;
    let (here, there) = (&a.site.function, &b.site.function);
    let one_site = here == there || *here == unknown || *there == unknown;
    a.state > FindingState::None
        && (path(a) == path(b))
        && (a.container.is_some() || (one_site && (a.cause, &a.route) == (b.cause, &b.route)))
}

/// Whether the processes share one limit, so that the growth of each brings its end nearer for all.
fn shares_limit(one: &Report, other: &Report) -> bool {
    let (one, other) = (&one.memory, &other.memory);
    one.limit_scope != LimitScope::Process
        && (one.limit_scope, one.limit_bytes) == (other.limit_scope, other.limit_bytes)
}

/// Shortens the time to out-of-memory of each report by the growth of the others with which it shares a limit.
fn share(reports: &mut [Report]) {
    let grows = |report: &Report| -> f64 {
        let findings = report.findings.iter();
        let findings = findings.filter(|finding| finding.state > FindingState::None);
        findings
            .map(|finding| finding.growth_bytes_per_second)
            .sum()
    };
    let growth: Vec<f64> = reports.iter().map(grows).collect();
    for at in 0..reports.len() {
        let others = reports.iter().zip(&growth).enumerate();
        let more: f64 = others
            .filter(|(other, (report, _))| *other != at && shares_limit(&reports[at], report))
            .map(|(_, (_, grown))| grown)
            .sum();
        let own = growth[at];
        for finding in &mut reports[at].findings {
            shorten(finding, own, more);
        }
    }
}

/// Adds the finding of another process.
fn add_finding(sum: &mut Finding, part: &Finding) {
    let requests = |finding: &Finding| {
        per(
            finding.retained_bytes as f64,
            finding.retained_bytes_per_request,
        )
    };
    let both = requests(sum) + requests(part);
    let kept = (sum.retained_bytes + part.retained_bytes) as f64;
    sum.precision = precision::of_both(sum, part, [requests(sum), requests(part)]);
    let tokens = (sum.new_tokens + part.new_tokens) as f64;
    let new = |finding: &Finding| finding.retained_bytes_per_new_token * finding.new_tokens as f64;
    if tokens > 0.0 {
        sum.retained_bytes_per_new_token = (new(sum) + new(part)) / tokens;
    }
    if both > 0.0 {
        sum.retained_bytes_per_request = kept / both;
    }
    sum.state = sum.state.max(part.state);
    sum.retained_bytes += part.retained_bytes;
    sum.container_bytes += part.container_bytes;
    sum.blocks += part.blocks;
    sum.matured_bytes += part.matured_bytes;
    sum.evicted_bytes += part.evicted_bytes;
    sum.new_tokens += part.new_tokens;
    sum.time_to_oom_seconds = first(sum.time_to_oom_seconds, part.time_to_oom_seconds);
    sum.growth_bytes_per_second += part.growth_bytes_per_second;
    sum.confidence = sum.confidence.min(part.confidence);
    let earliest = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    sum.suspected_after_seconds =
        earliest(sum.suspected_after_seconds, part.suspected_after_seconds);
    sum.confirmed_after_seconds =
        earliest(sum.confirmed_after_seconds, part.confirmed_after_seconds);
    if let (Some(sum), Some(part)) = (&mut sum.container, &part.container) {
        add_container(sum, part);
    }
}

/// Shortens the time to out-of-memory: others add `more` bytes per second to what counts against the limit.
pub(super) fn sooner(finding: &mut Finding, more: f64) {
    let own = finding.growth_bytes_per_second;
    shorten(finding, own, more);
}

/// The same if `own` bytes per second were taken into account.
fn shorten(finding: &mut Finding, own: f64, more: f64) {
    if let Some(oom) = &mut finding.time_to_oom_seconds
        && more > 0.0
        && own > 0.0
    {
        let faster = own / (own + more);
        *oom = TimeToOom {
            median: oom.median * faster,
            early: oom.early * faster,
            late: oom.late.map(|late| late * faster),
        };
    }
}

/// The time to out-of-memory of the process that is the first to end.
fn first(one: Option<TimeToOom>, other: Option<TimeToOom>) -> Option<TimeToOom> {
    match (one, other) {
        (Some(one), Some(other)) if other.median < one.median => Some(other),
        (one, other) => one.or(other),
    }
}

fn add_container(sum: &mut ContainerSummary, part: &ContainerSummary) {
    sum.entries_start += part.entries_start;
    sum.entries_end += part.entries_end;
}

/// The number of events: the total divided by the bytes per event.
fn per(all: f64, each: f64) -> f64 {
    if each > 0.0 { all / each } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{insufficient, leak, no_leak};
    use crate::report::Ledger;

    #[test]
    fn workers_of_one_service_are_added_up() {
        let (one, mut other) = (leak(), leak());
        other.target.pid += 1;
        // It keeps half as much per token.
        other.findings[0].retained_bytes /= 2;
        other.findings[0].retained_bytes_per_new_token /= 2.0;
        other.routes.truncate(1);
        other.window.requests_seen = false;
        let (kept, each) = (
            one.findings[0].retained_bytes,
            one.findings[0].retained_bytes_per_new_token,
        );
        let all = sum(vec![one.clone(), other]).expect("a report");
        assert_eq!(all.processes.len(), 2);
        assert_eq!(all.window.requests, 2 * one.window.requests);
        assert!(!all.window.requests_seen, "those of one are not seen");
        let [finding] = &all.findings[..] else {
            panic!("the same leak twice: {:?}", all.findings);
        };
        assert_eq!(finding.retained_bytes, kept + kept / 2);
        assert!((finding.retained_bytes_per_new_token - each * 0.75).abs() < 1e-6);
        assert_eq!(all.routes.len(), 2);
        assert_eq!(all.routes[0].requests, 2 * one.routes[0].requests);
        assert_eq!(all.routes[1].requests, one.routes[1].requests);
    }

    #[test]
    fn a_process_without_a_verdict_prevents_that_of_the_service_if_it_works_or_grows() {
        let verdict = |requests: u64, seconds: f64, unexplained: u64| {
            let (judged, mut other) = (no_leak(), insufficient());
            other.window.requests = judged.window.requests * requests / 100;
            other.window.seconds = judged.window.seconds * seconds;
            let ledger = judged.ledger.expect("a ledger");
            other.ledger = Some(Ledger {
                unexplained_bytes: unexplained * other.memory.rss_end_bytes / 100,
                ..ledger
            });
            sum(vec![judged, other]).expect("a report").verdict
        };
        assert_eq!(verdict(0, 1.0, 0), Verdict::NoLeak, "an idle master");
        assert_eq!(verdict(8, 0.1, 0), Verdict::NoLeak, "a new worker");
        assert_eq!(verdict(100, 0.1, 0), Verdict::InsufficientEvidence);
        assert_eq!(verdict(100, 1.0, 0), Verdict::InsufficientEvidence);
        assert_eq!(verdict(0, 1.0, 10), Verdict::InsufficientEvidence);
        assert_eq!(verdict(8, 0.1, 10), Verdict::InsufficientEvidence);
        let mut many = vec![insufficient(); 31];
        let judged = no_leak();
        for one in &mut many {
            one.window = judged.window;
        }
        many.push(judged);
        assert_eq!(
            sum(many).expect("a report").verdict,
            Verdict::InsufficientEvidence,
            "none of many equal workers is idle"
        );
    }

    #[test]
    fn what_differs_stays_apart() {
        let (one, mut other) = (leak(), leak());
        other.findings[0].route = "GET /other".to_owned();
        let all = sum(vec![one, other]).expect("a report");
        assert_eq!(all.findings.len(), 2, "{:?}", all.findings);
    }

    #[test]
    fn a_shared_limit_comes_nearer_with_each_process() {
        let oom = |report: &Report| {
            let time = report.findings[0].time_to_oom_seconds.as_ref();
            time.expect("a forecast").median
        };
        let (mut one, mut other) = (leak(), leak());
        other.findings[0].time_to_oom_seconds = Some(TimeToOom {
            median: oom(&one) / 2.0,
            early: 1.0,
            late: None,
        });
        let alone = oom(&one);
        let apart = sum(vec![one.clone(), other.clone()]).expect("a report");
        assert!((oom(&apart) - alone / 2.0).abs() < 1e-6, "the first to end");
        one.memory.limit_scope = LimitScope::ControlGroup;
        other.memory.limit_scope = LimitScope::ControlGroup;
        other.findings[0].time_to_oom_seconds = one.findings[0].time_to_oom_seconds;
        let together = sum(vec![one.clone(), other.clone()]).expect("a report");
        assert!((oom(&together) - alone / 2.0).abs() < 1e-6, "twice as fast");
        other.findings[0].route = "GET /other".to_owned();
        let together = sum(vec![one, other]).expect("a report");
        assert_eq!(together.findings.len(), 2);
        assert!(
            (oom(&together) - alone / 2.0).abs() < 1e-6,
            "by another leak too"
        );
    }

    #[test]
    fn one_process_is_no_sum() {
        let one = leak();
        let all = sum(vec![one.clone()]).expect("a report");
        assert!(all.processes.is_empty());
        assert_eq!(all.window.requests, one.window.requests);
        assert!(sum(Vec::new()).is_none());
    }
}
