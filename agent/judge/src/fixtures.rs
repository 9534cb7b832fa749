//! Reports with known contents, for tests of outputs and of service reports.

use std::sync::Arc;

use crate::events::{Binding, Frame, FrameKind, LimitScope, TokenClass, Workload};
use crate::report::{
    Basis, Bound, Cause, Finding, FindingState, Health, Lack, Ledger, Live, LiveSite, Memory,
    Precision, Report, ResidencySummary, ResidentAge, RouteSummary, SCHEMA, SiteSummary,
    TargetSummary, TimeToOom, Verdict, Window,
};
use crate::stacks::{LiveStack, LiveStacks};

/// A frame of `app` with file and line, or of another module without.
pub fn frame(function: &str, kind: FrameKind) -> Frame {
    let user = kind == FrameKind::User;
    Frame {
        function: function.to_owned(),
        file: user.then(|| "/srv/app.py".to_owned()),
        line: user.then_some(17),
        module: if user { "app" } else { "libc.so.6" }.to_owned(),
        kind,
    }
}

/// A finding that keeps 20 MB at `app.py:17`.
pub fn finding(state: FindingState, cause: Cause, route: &str) -> Finding {
    Finding {
        state,
        cause,
        route: route.to_owned(),
        site: SiteSummary {
            function: "get_data".to_owned(),
            file: Some("app.py".to_owned()),
            line: Some(17),
            module: "app".to_owned(),
            retained_bytes: 20_000_000,
            stack: vec![
                frame("malloc", FrameKind::Allocator),
                frame("get_data", FrameKind::User),
                frame("main", FrameKind::User),
            ],
        },
        also: vec![],
        retained_bytes: 24_145_408,
        retained_bytes_error: 0,
        retained_is_lower_bound: false,
        container_bytes: 0,
        retained_bytes_per_new_token: 1945.6,
        retained_bytes_per_repeat_token: 0.0,
        retained_bytes_per_request: 972.8,
        blocks: 198_560,
        matured_bytes: 24_145_408,
        evicted_bytes: 0,
        new_tokens: 12_410,
        growth_bytes_per_second: 43_000.0,
        confidence: 0.998,
        binding: Binding::Exact,
        time_to_oom_seconds: Some(TimeToOom {
            median: 11_400.0,
            early: 9_600.0,
            late: Some(14_000.0),
        }),
        evidence: vec!["12,410 requests keep memory, none freed in 64 s".to_owned()],
        suspected_after_seconds: Some(12.0),
        confirmed_after_seconds: Some(44.0),
        basis: Basis::Blocks,
        container: None,
        precision: Some(Precision {
            per_new_token: 4.0,
            per_repeat_token: 0.0,
            per_request: 2.0,
            per_second: 2_000.0,
            keeping_tokens: 12_400,
            per_keeping_token: 4.0,
            is_of_process: false,
            is_part: false,
        }),
        hint: None,
    }
}

/// Tokens of finished requests, nearly all of them in memory.
fn residency() -> ResidencySummary {
    ResidencySummary {
        tokens: 3000,
        resident: 2990,
        scanned_bytes: 38 << 20,
        cut: false,
        said: "of 3,000 tokens whose requests ended over 10 s ago, 2,990 are still in memory"
            .to_owned(),
        ages: vec![
            ResidentAge {
                at_least_seconds: 10,
                tokens: 1000,
                resident: 1000,
            },
            ResidentAge {
                at_least_seconds: 30,
                tokens: 2000,
                resident: 1990,
            },
        ],
    }
}

/// A report of a confirmed leak per new token.
pub fn leak() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        target: TargetSummary {
            pid: 4711,
            exe: "/usr/bin/python3.11".to_owned(),
            runtime: "cpython 3.11".to_owned(),
            allocators: vec!["glibc".to_owned(), "pymalloc".to_owned()],
            mode: "trace".to_owned(),
            limitations: vec![],
            workload: Workload::default(),
        },
        window: Window {
            seconds: 64.2,
            requests: 24_820,
            new_tokens: 12_410,
            repeat_tokens: 12_400,
            anonymous: 10,
            distinct_tokens: 12_390,
            requests_seen: true,
        },
        memory: Memory {
            rss_start_bytes: 100 << 20,
            rss_end_bytes: 124 << 20,
            live_growth_bytes: 24_145_408,
            live_bytes: 60 << 20,
            live_blocks: 400_000,
            limit_bytes: Some(512 << 20),
            limit_scope: LimitScope::Process,
            used_bytes: 124 << 20,
        },
        verdict: Verdict::Leak,
        reason: "GET /api/data keeps memory for each new token, and none was freed.".to_owned(),
        findings: vec![finding(
            FindingState::Confirmed,
            Cause::TokenKeyed,
            "GET /api/data",
        )],
        routes: vec![
            RouteSummary {
                route: "GET /api/data".to_owned(),
                requests: 24_810,
                new_tokens: 12_410,
                repeat_tokens: 12_400,
                retained_bytes: 24_145_408,
                p99_seconds: 0.0123,
                least_requests_per_second: 380.0,
                least_new_tokens_per_second: 190.0,
            },
            RouteSummary {
                route: "GET /health".to_owned(),
                requests: 10,
                p99_seconds: 0.001,
                ..RouteSummary::default()
            },
        ],
        ledger: Some(Ledger {
            gained_bytes: 25 << 20,
            findings_bytes: 24 << 20,
            benign_bytes: 0,
            unexplained_bytes: 1 << 20,
        }),
        bound: None,
        lacks: vec![],
        residency: Some(residency()),
        health: Health {
            unknown_frees: 812,
            probe_hits: 2_900_000,
            probe_seconds: 0.77,
            overhead_ratio: 0.012,
            agent_rss_bytes: 34 << 20,
            agent_cpu_seconds: 0.9,
            map_bytes: 21 << 20,
            ..Health::default()
        },
        processes: vec![],
        live: Live {
            curve: (0..64_u64)
                .map(|s| (s as f64, (100 << 20) + s * 390_000, s * 377_000))
                .collect(),
            requests_per_second: 386.6,
            new_tokens_per_second: 193.3,
            top_sites: vec![LiveSite {
                function: "get_data".to_owned(),
                location: "app.py:17".to_owned(),
                bytes: 20_000_000,
                blocks: 160_000,
            }],
        },
    }
}

/// The same report with a suspicion only.
pub fn suspect() -> Report {
    let mut report = leak();
    report.verdict = Verdict::Suspect;
    report.findings[0].state = FindingState::Suspect;
    report.findings[0].confirmed_after_seconds = None;
    report.findings[0].evidence = vec![
        "12,410 requests keep memory, none freed in 64 s: unbounded, or bounded above 12,410"
            .to_owned(),
    ];
    report
}

/// A bounded cache.
pub fn no_leak() -> Report {
    let mut report = leak();
    report.verdict = Verdict::NoLeak;
    "The cache evicts as much as it adds.".clone_into(&mut report.reason);
    report.findings[0].state = FindingState::None;
    report.findings[0].cause = Cause::BoundedCache;
    report.findings[0].evicted_bytes = 22_000_000;
    report.findings[0].time_to_oom_seconds = None;
    report
}

/// A bound of so many bytes per second from 50 s of observation; nothing else is lacking.
pub fn bound(bytes_per_second: f64) -> Bound {
    Bound {
        bytes_per_second,
        seconds: 50.0,
        lasts_seconds: None,
        observe_seconds: None,
        one_in_requests: None,
        is_whole: true,
        counts_containers: false,
    }
}

/// A report with too many losses for a verdict.
pub fn insufficient() -> Report {
    let mut report = leak();
    report.verdict = Verdict::InsufficientEvidence;
    "12.0 % of blocks were lost; at most 5 % may be.".clone_into(&mut report.reason);
    report.findings.clear();
    report.lacks = vec![Lack::Losses];
    report.health.map_full = 348_000;
    report.health.dropped_events = 1;
    report.target.limitations =
        vec!["no debug information: functions are known, lines are not".to_owned()];
    report
}

/// Three stacks with 4,000 live bytes.
pub fn stacks() -> LiveStacks {
    use FrameKind::{Allocator, Library, Unknown, User};

    let stack = |names: &[(&str, FrameKind)], bytes, blocks, route: Option<&str>| LiveStack {
        frames: names
            .iter()
            .map(|(name, kind)| frame(name, *kind))
            .collect::<Arc<[_]>>(),
        bytes,
        blocks,
        origin: route.map(|route| (route.to_owned(), TokenClass::New)),
    };
    LiveStacks {
        stacks: vec![
            stack(
                &[("malloc", Allocator), ("get_data", User), ("main", User)],
                3000,
                30,
                Some("GET /api/data"),
            ),
            stack(
                &[
                    ("malloc", Allocator),
                    ("Vec<T>::push & \"grow\"", Library),
                    ("main", User),
                ],
                900,
                9,
                None,
            ),
            stack(&[("libx.so+0x17", Unknown)], 100, 1, None),
        ],
    }
}
