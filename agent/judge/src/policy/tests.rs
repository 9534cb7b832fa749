//! Each decision, and when there is none.

use super::*;
use crate::fixtures::{bound, insufficient, leak, no_leak, suspect};
use crate::report::{Basis, Bound, Ledger, TimeToOom, UNDECIDED};

/// At most this many bytes per second could have been missed.
fn bounded(mut report: Report, bytes_per_second: f64) -> Report {
    report.bound = Some(Bound {
        lasts_seconds: Some(1e6),
        observe_seconds: Some(0.0),
        ..bound(bytes_per_second)
    });
    report
}

/// Nothing grows, and both routes are used.
fn steady(bytes_per_second: f64) -> Report {
    let mut report = bounded(no_leak(), bytes_per_second);
    for route in &mut report.routes {
        route.least_requests_per_second = route.requests as f64 / 64.0;
        route.least_new_tokens_per_second = route.new_tokens as f64 / 64.0;
    }
    report
}

/// The same with too little evidence of this kind.
fn lacking(lack: Lack, said: &str) -> Report {
    let mut report = steady(1.0);
    report.verdict = Verdict::InsufficientEvidence;
    said.clone_into(&mut report.reason);
    report.lacks = vec![lack];
    report
}

fn one(policy: Policy, reports: &[Report]) -> Outcome {
    let mut all = judge(&[policy], reports, &|_| true);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn ruling(policy: Policy, report: Report) -> Ruling {
    one(policy, &[report]).ruling
}

fn is_undecided(ruling: Ruling) -> bool {
    matches!(ruling, Ruling::Undecided { .. })
}

const SURE: Ruling = Ruling::Failed { confirmed: true };
const SUSPECTED: Ruling = Ruling::Failed { confirmed: false };
/// All policies with a limit that nothing reaches.
const GENEROUS: [Policy; 4] = [
    Policy::Verdict,
    Policy::MaxGrowth(1e9),
    Policy::MaxKeptPerRequest(1e9),
    Policy::MaxKeptPerToken(1e9),
];

#[test]
fn without_limits_the_verdict_decides() {
    assert_eq!(ruling(Policy::Verdict, leak()), SURE);
    assert_eq!(ruling(Policy::Verdict, suspect()), SUSPECTED);
    assert_eq!(ruling(Policy::Verdict, steady(10.0)), Ruling::Passed);
    let mut open = lacking(Lack::Horizon, "Observe 40 s more to rule that out.");
    open.bound.as_mut().expect("a bound").observe_seconds = Some(40.0);
    let open = one(Policy::Verdict, &[open]);
    let observe_seconds = Some(40.0);
    assert_eq!(open.ruling, Ruling::Undecided { observe_seconds });
    assert_eq!(open.said, "Observe 40 s more to rule that out.");
    let failed = one(Policy::Verdict, &[leak()]);
    assert_eq!(failed.findings, leak().findings);
}

#[test]
fn growth_is_passed_by_the_bound_and_failed_by_findings() {
    let limit = Policy::MaxGrowth(100.0);
    assert_eq!(ruling(limit, steady(99.0)), Ruling::Passed);
    let open = one(limit, &[steady(300.0)]);
    assert_eq!(
        open.ruling,
        Ruling::Undecided {
            observe_seconds: Some(100.0)
        }
    );
    assert!(open.said.contains("Observe 100 s more"), "{}", open.said);
    // The finding grows by 43,000 bytes per second; its interval begins at 35,014.
    assert_eq!(
        ruling(Policy::MaxGrowth(35_000.0), bounded(leak(), 50_000.0)),
        SURE
    );
    assert_eq!(
        ruling(Policy::MaxGrowth(35_000.0), bounded(suspect(), 50_000.0)),
        SUSPECTED
    );
    for within in [36_000.0, 43_000.0, 49_000.0] {
        let open = one(Policy::MaxGrowth(within), &[bounded(leak(), 40_000.0)]);
        assert!(is_undecided(open.ruling), "{within}: {open:?}");
        assert!(open.findings.is_empty());
    }
    // A leak may be slower than the policy allows.
    assert_eq!(
        ruling(Policy::MaxGrowth(60_000.0), bounded(leak(), 50_000.0)),
        Ruling::Passed
    );
    assert!(is_undecided(ruling(
        Policy::MaxGrowth(60_000.0),
        bounded(leak(), 70_000.0)
    )));
    let mut vague = bounded(leak(), 40_000.0);
    vague.findings[0].time_to_oom_seconds = Some(TimeToOom {
        median: 100.0,
        early: 50.0,
        late: None,
    });
    assert!(
        is_undecided(ruling(Policy::MaxGrowth(1.0), vague.clone())),
        "the interval includes no growth"
    );
    vague.findings[0].time_to_oom_seconds = None;
    assert_eq!(ruling(Policy::MaxGrowth(20_000.0), vague), SURE);
}

#[test]
fn what_requests_keep_is_judged_by_route() {
    // 387 requests per second on one route, and 0.16 on the other.
    let open = one(Policy::MaxKeptPerRequest(64.0), &[steady(200.0)]);
    assert!(is_undecided(open.ruling), "{open:?}");
    assert!(
        open.said
            .starts_with("GET /health could keep up to 1.2 KiB per request"),
        "{}",
        open.said
    );
    assert!(open.said.contains("more to decide"), "{}", open.said);
    let selected = |route: &str| route.contains("/api/");
    let busy = judge(
        &[Policy::MaxKeptPerRequest(64.0)],
        &[steady(200.0)],
        &selected,
    );
    assert_eq!(busy[0].ruling, Ruling::Passed, "{busy:?}");
    assert_eq!(
        ruling(Policy::MaxKeptPerToken(64.0), steady(200.0)),
        Ruling::Passed,
        "no token on the other route"
    );
    assert!(is_undecided(ruling(
        Policy::MaxKeptPerToken(1.0),
        steady(200.0)
    )));

    // 972.8 bytes per request and 1,945.6 per new token, all blocks counted.
    assert_eq!(
        ruling(Policy::MaxKeptPerRequest(950.0), bounded(leak(), 50_000.0)),
        SURE
    );
    assert_eq!(
        ruling(
            Policy::MaxKeptPerToken(1900.0),
            bounded(suspect(), 50_000.0)
        ),
        SUSPECTED
    );
    assert!(is_undecided(ruling(
        Policy::MaxKeptPerRequest(973.0),
        bounded(leak(), 5e6)
    )));
    let mut sampled = bounded(leak(), 50_000.0);
    sampled.findings[0].retained_bytes_error = sampled.findings[0].retained_bytes / 4;
    assert!(is_undecided(ruling(
        Policy::MaxKeptPerRequest(900.0),
        sampled.clone()
    )));
    assert_eq!(ruling(Policy::MaxKeptPerRequest(500.0), sampled), SURE);
    let failed = one(Policy::MaxKeptPerToken(64.0), &[leak()]);
    assert_eq!(failed.findings.len(), 1);
    assert!(
        failed
            .said
            .starts_with("GET /api/data keeps 1.9 KiB per new token"),
        "{}",
        failed.said
    );
    let other = judge(&[Policy::MaxKeptPerToken(64.0)], &[leak()], &|route| {
        route == "GET /health"
    });
    assert!(
        is_undecided(other[0].ruling),
        "the leak is on another route: {other:?}"
    );
}

#[test]
fn sites_of_one_route_are_added_up() {
    let mut report = bounded(leak(), 50_000.0);
    let mut more = report.findings[0].clone();
    more.state = FindingState::Suspect;
    more.site.function = "other".to_owned();
    report.findings.push(more);
    assert_eq!(
        ruling(Policy::MaxKeptPerRequest(1_800.0), report.clone()),
        SUSPECTED
    );
    assert_eq!(
        ruling(Policy::MaxKeptPerRequest(900.0), report.clone()),
        SURE
    );
    assert_eq!(
        ruling(Policy::MaxGrowth(60_000.0), report.clone()),
        SUSPECTED
    );
    assert!(is_undecided(ruling(
        Policy::MaxKeptPerRequest(1_950.0),
        report
    )));
}

/// The same memory is found as blocks and as entries of a container.
#[test]
fn what_is_found_twice_counts_once() {
    let mut report = bounded(leak(), 50_000.0);
    let mut again = report.findings[0].clone();
    again.basis = Basis::Container;
    again.cause = Cause::PerRequest;
    report.findings.push(again);
    let (request, growth) = (
        Policy::MaxKeptPerRequest(1_100.0),
        Policy::MaxGrowth(50_000.0),
    );
    assert!(is_undecided(ruling(request, report.clone())));
    assert!(is_undecided(ruling(growth, report.clone())));
    assert_eq!(ruling(Policy::MaxKeptPerRequest(900.0), report), SURE);
}

#[test]
fn a_limit_of_zero_needs_the_verdict() {
    let zero = [
        Policy::MaxGrowth(0.0),
        Policy::MaxKeptPerRequest(0.0),
        Policy::MaxKeptPerToken(0.0),
    ];
    for policy in zero {
        let passed = one(policy, &[steady(200.0)]);
        assert_eq!(passed.ruling, Ruling::Passed);
        assert!(
            passed.said.contains("could have been missed (95 %)"),
            "{}",
            passed.said
        );
        assert!(
            is_undecided(ruling(policy, lacking(Lack::Horizon, "not yet"))),
            "{policy}"
        );
        assert_eq!(ruling(policy, bounded(leak(), 50_000.0)), SURE, "{policy}");
    }
    let mut background = bounded(leak(), 50_000.0);
    background.findings[0].cause = Cause::Background;
    "(background)".clone_into(&mut background.findings[0].route);
    assert!(
        is_undecided(ruling(Policy::MaxKeptPerToken(0.0), background)),
        "no token keeps it"
    );
}

#[test]
fn nothing_is_passed_without_evidence() {
    let kinds = [
        Lack::Losses,
        Lack::Readings,
        Lack::Time,
        Lack::UnseenHeap,
        Lack::Tracing,
        Lack::Bound,
    ];
    for lack in kinds {
        for policy in GENEROUS {
            let outcome = one(policy, &[lacking(lack, "the reason")]);
            assert!(is_undecided(outcome.ruling), "{lack:?}: {outcome:?}");
            assert_eq!(outcome.said, "the reason");
        }
    }
    for policy in GENEROUS {
        assert!(is_undecided(ruling(policy, insufficient())));
        assert!(
            judge(&[policy], &[], &|_| true)
                .iter()
                .all(|one| is_undecided(one.ruling))
        );
        // A suspicion does not make up for a heap that is not read.
        let mut unread = bounded(suspect(), 50_000.0);
        unread.lacks = vec![Lack::UnseenHeap];
        assert_ne!(ruling(policy, unread), Ruling::Passed, "{policy}");
        let mut few = steady(1.0);
        few.window.requests = 49;
        assert!(is_undecided(ruling(policy, few)), "{policy}");
    }
    let mut again = steady(1.0);
    again.lacks = vec![Lack::Tracing];
    assert!(
        is_undecided(ruling(Policy::Verdict, again)),
        "memory grows again"
    );
    let mut unbounded = steady(1.0);
    unbounded.bound = None;
    assert!(is_undecided(ruling(Policy::MaxGrowth(1e9), unbounded)));
    // The verdict needs the horizon; a limit does not.
    let short = lacking(Lack::Horizon, "not yet");
    assert!(is_undecided(ruling(Policy::Verdict, short.clone())));
    assert_eq!(ruling(Policy::MaxGrowth(100.0), short), Ruling::Passed);
}

/// Traffic in only a part of the observation is no evidence about what requests keep.
#[test]
fn a_route_without_steady_traffic_is_not_passed() {
    let mut report = steady(200.0);
    report.routes[0].least_requests_per_second = 0.0;
    let open = one(Policy::MaxKeptPerRequest(1e9), &[report]);
    assert_eq!(
        open.ruling,
        Ruling::Undecided {
            observe_seconds: None
        }
    );
    assert!(
        open.said.contains("only in a part of the observation"),
        "{}",
        open.said
    );
    let mut silent = steady(200.0);
    silent.routes.clear();
    assert!(is_undecided(ruling(Policy::MaxKeptPerRequest(1e9), silent)));
}

#[test]
fn the_route_of_a_finding_may_be_undecided() {
    // Growth beside the finding is excluded.
    let mut report = steady(200.0);
    report.verdict = Verdict::Leak;
    report.findings = leak().findings;
    UNDECIDED.clone_into(&mut report.findings[0].route);
    assert_eq!(
        ruling(Policy::MaxKeptPerRequest(64.0), report.clone()),
        SURE,
        "some route keeps as much"
    );
    let selected = |report: Report| {
        let outcomes = judge(&[Policy::MaxKeptPerRequest(64.0)], &[report], &|route| {
            route == "GET /api/data"
        });
        outcomes[0].ruling
    };
    assert!(
        is_undecided(selected(report.clone())),
        "it may be another one"
    );
    report.verdict = Verdict::NoLeak;
    report.findings.clear();
    assert_eq!(selected(report), Ruling::Passed);
}

#[test]
fn an_idle_process_that_grows_is_not_passed() {
    let worker = steady(100.0);
    let mut master = insufficient();
    master.window.requests = 0;
    master.lacks = vec![Lack::Time];
    let ledger = worker.ledger.expect("a ledger");
    let with = |part: u64| {
        let mut master = master.clone();
        master.ledger = Some(Ledger {
            unexplained_bytes: master.memory.rss_end_bytes * part / 100,
            ..ledger
        });
        one(Policy::Verdict, &[worker.clone(), master]).ruling
    };
    assert_eq!(with(0), Ruling::Passed);
    assert!(is_undecided(with(50)));
}

#[test]
fn a_service_is_all_its_processes() {
    let limit = Policy::MaxGrowth(150.0);
    let (worker, other) = (steady(100.0), steady(100.0));
    assert!(
        is_undecided(one(limit, &[worker.clone(), other.clone()]).ruling),
        "the bounds add up"
    );
    assert_eq!(
        one(Policy::MaxGrowth(200.0), &[worker.clone(), other]).ruling,
        Ruling::Passed
    );
    // So do the requests: both together keep no more per request than one alone.
    let tokens = Policy::MaxKeptPerToken(64.0);
    assert_eq!(
        one(tokens, &[worker.clone(), worker.clone()]).ruling,
        Ruling::Passed
    );
    let mut master = lacking(Lack::Requests, "Only 0 requests so far; 50 are needed.");
    master.window.requests = 0;
    master.routes.clear();
    assert_eq!(
        one(limit, &[worker.clone(), master.clone()]).ruling,
        Ruling::Passed
    );
    assert_eq!(
        one(Policy::Verdict, &[worker.clone(), master]).ruling,
        Ruling::Passed
    );
    // A worker with a part of the traffic that was not observed for long enough.
    let young = lacking(Lack::Time, "too short");
    for policy in GENEROUS {
        let outcome = one(policy, &[worker.clone(), young.clone()]);
        assert!(is_undecided(outcome.ruling), "{outcome:?}");
        assert_ne!(
            one(policy, &[worker.clone(), leak()]).ruling,
            Ruling::Passed
        );
    }
    assert_eq!(one(Policy::Verdict, &[worker, leak()]).ruling, SURE);
}

#[test]
fn names_are_those_of_the_flags() {
    let all = [
        Policy::Verdict,
        Policy::MaxGrowth(1_048_576.0 / 60.0),
        Policy::MaxKeptPerRequest(64.0),
        Policy::MaxKeptPerToken(0.0),
    ];
    let said: Vec<String> = all
        .iter()
        .map(|one| format!("{}: {one}", one.name()))
        .collect();
    assert_eq!(
        said,
        [
            "verdict: no leak and no suspicion",
            "max-growth: growth of at most 1.0 MiB/min",
            "max-kept-per-request: at most 64 B kept per request",
            "max-kept-per-token: at most 0 B kept per new token",
        ]
    );
}
