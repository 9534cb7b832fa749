//! Runtimes with a collector whose heap is not read: growth of the process may be garbage.

use heaptide_judge::events::{
    Binding, Fingerprint, MemorySample, Nanos, Observation, Request, RequestId, Residency,
    ResidentAge, ResidentToken, TargetInfo, TokenStrings,
};
use heaptide_judge::pipeline::Pipeline;
use heaptide_judge::report::{Cause, FindingState, Report, Verdict};

use super::judged::lab;

/// Requests per second, half of them on each route.
const RATE: u64 = 40;
const SECONDS: u64 = 90;

/// A process that grows by a megabyte a second. `kept`: whether a token, by its number, is still in memory; those of
/// even numbers were used on `/api/data`.
fn run(kept: fn(u64) -> bool) -> Report {
    run_with(kept, |_| TokenStrings::NotAlike)
}

/// The same with these `strings` in memory, by the second.
fn run_with(kept: fn(u64) -> bool, strings: fn(u64) -> TokenStrings) -> Report {
    let mut pipeline = Pipeline::new(lab());
    let at = |second: u64| Nanos(1_000_000_000 * (1_000 + second));
    let info = TargetInfo {
        runtime: "a runtime".to_owned(),
        heap_unseen: true,
        collected: true,
        ..TargetInfo::default()
    };
    pipeline.observe(&Observation::Target(at(0), info));
    for second in 0..SECONDS {
        let tokens = second * RATE..(second + 1) * RATE;
        for token in tokens {
            let route = if token % 2 == 0 { "data" } else { "profile" };
            pipeline.observe(&Observation::Request(Request {
                id: RequestId(token + 1),
                start: at(second),
                end: at(second),
                head: format!("GET /api/{route}"),
                token: Some(Fingerprint(token)),
                status: Some(200),
                binding: Binding::Exact,
                body_bytes: 0,
                token_uncertain: false,
                path_cut: false,
                again: false,
            }));
        }
        let used = (60 + second) << 20;
        pipeline.observe(&Observation::Memory(MemorySample {
            at: at(second),
            rss: used,
            rss_anon: used,
            used,
            limit: Some(400 << 20),
            ..MemorySample::default()
        }));
        if second >= 30 && second % 5 == 0 {
            let old = (second - 20) * RATE;
            let sample: Vec<ResidentToken> = (0..old)
                .map(|token| ResidentToken {
                    token: Fingerprint(token),
                    is_resident: kept(token),
                })
                .collect();
            pipeline.observe(&Observation::Residency(Residency {
                at: at(second),
                scanned_bytes: used,
                cut: false,
                ages: vec![ResidentAge {
                    at_least_seconds: 10,
                    tokens: old,
                    resident: sample.iter().filter(|one| one.is_resident).count() as u64,
                }],
                sample,
                strings: strings(second),
            }));
        }
    }
    pipeline.report()
}

#[test]
fn growth_alone_is_no_evidence() {
    for kept in [
        |_| false,
        |_| true,
        |token| token % 10 < 4,
        |token| token > 1_000,
    ] {
        let report = run(kept);
        assert_eq!(
            report.verdict,
            Verdict::InsufficientEvidence,
            "{}",
            report.reason
        );
        assert!(
            report
                .findings
                .iter()
                .all(|one| one.state == FindingState::None)
        );
    }
}

#[test]
fn tokens_of_one_route_that_stay_are_suspected_and_never_confirmed() {
    let report = run(|token| token % 2 == 0);
    assert_eq!(report.verdict, Verdict::Suspect, "{}", report.reason);
    let top = &report.findings[0];
    assert_eq!(
        (top.cause, top.route.as_str()),
        (Cause::TokenKeyed, "GET /api/data")
    );
    assert_eq!(top.state, FindingState::Suspect);
    assert!(
        top.evidence[0].contains("were used on GET /api/data"),
        "{top:#?}"
    );
    // A part was evicted, or garbage of the other route was not collected yet.
    for kept in [
        |token| token % 2 == 0 && token > 400,
        |token| token % 2 == 0 || token % 3 == 0,
    ] {
        assert_eq!(run(kept).verdict, Verdict::InsufficientEvidence);
    }
}

/// All tokens stay for the 90 s of the observation, with a copy of each in a log.
#[test]
fn a_full_cache_keeps_tokens_but_their_number_stays() {
    let kept = |token: u64| token.is_multiple_of(2);
    let leak = run_with(kept, |second| counted(500 + second * RATE));
    assert_eq!(leak.verdict, Verdict::Suspect, "{}", leak.reason);
    assert!(leak.findings[0].evidence[1].contains("that begin like tokens rose by"));
    for full in [
        |_| counted(9_000),
        |second| counted(9_000 + second * 77 % 300),
    ] {
        let report = run_with(kept, full);
        assert_eq!(report.verdict, Verdict::InsufficientEvidence);
        assert!(
            report.reason.contains("as in a full cache"),
            "{}",
            report.reason
        );
    }
}

/// Without a count of all memory, nobody knows whether the tokens replace others.
#[test]
fn memory_that_was_not_searched_is_no_evidence() {
    let report = run_with(|token| token.is_multiple_of(2), |_| TokenStrings::Unknown);
    assert_eq!(report.verdict, Verdict::InsufficientEvidence);
}

fn counted(count: u64) -> TokenStrings {
    TokenStrings::Counted {
        beginning: 7,
        count,
    }
}
