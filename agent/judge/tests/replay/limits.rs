//! What prevents, delays or withdraws a verdict.

use heaptide_judge::pipeline::JudgeOptions;
use heaptide_judge::report::{Cause, FindingState, Verdict};

use super::judged::{lab, near, run, run_with};
use super::world::{Keeps, Trace};

#[test]
fn sampling() {
    for (keeps, cause) in [
        (Keeps::PerToken, Cause::TokenKeyed),
        (Keeps::PerRequest, Cause::PerRequest),
    ] {
        let run = run(Trace {
            keeps,
            sampling: 0.1,
            seconds: 120,
            limit: 64 << 20,
            ..Trace::default()
        });
        let top = run.expect(Verdict::Leak, cause, "GET /api/data", "get_data");
        assert!(near(top.retained_bytes_per_new_token, 1_900.0), "{top:#?}");
    }
}

#[test]
fn losses_forbid_first_the_confirmation_and_then_the_verdict() {
    let trace = Trace {
        keeps: Keeps::PerToken,
        limit: 64 << 20,
        ..Trace::default()
    };
    let few = run(Trace {
        lost_frees: 0.02,
        ..trace
    });
    assert_eq!(
        few.report.verdict,
        Verdict::Suspect,
        "{}",
        few.report.reason
    );
    assert!(few.top().confidence < 0.99);
    let many = run(Trace {
        lost_frees: 0.2,
        ..trace
    });
    assert_eq!(
        many.report.verdict,
        Verdict::InsufficientEvidence,
        "{}",
        many.report.reason
    );
    assert!(
        many.report
            .findings
            .iter()
            .all(|finding| finding.state == FindingState::None)
    );
    // Lost frees look like a leak of the working memory. Such a leak is never confirmed.
    let innocent = run(Trace {
        lost_frees: 0.02,
        ..Trace::default()
    });
    assert!(
        innocent
            .verdicts
            .iter()
            .all(|(_, verdict)| *verdict != Verdict::Leak)
    );
}

#[test]
fn too_little_is_insufficient() {
    let short = run(Trace {
        seconds: 14,
        ..Trace::default()
    });
    assert_eq!(
        short.report.verdict,
        Verdict::InsufficientEvidence,
        "{}",
        short.report.reason
    );
    let idle = run(Trace {
        rate: 0.5,
        ..Trace::default()
    });
    assert_eq!(
        idle.report.verdict,
        Verdict::InsufficientEvidence,
        "{}",
        idle.report.reason
    );
}

#[test]
fn a_cache_that_is_not_full_is_suspected_and_not_confirmed() {
    let trace = Trace {
        keeps: Keeps::Lru(4_000),
        seconds: 60,
        ..Trace::default()
    };
    let cold = run(Trace {
        limit: 1 << 30,
        ..trace
    });
    assert_eq!(
        cold.report.verdict,
        Verdict::Suspect,
        "{}",
        cold.report.reason
    );
    assert!(
        cold.top().evidence[0].contains("none freed"),
        "{:#?}",
        cold.top()
    );
    let expected = run_with(
        Trace {
            limit: 1 << 30,
            ..trace
        },
        JudgeOptions {
            expect_cache_entries: Some(4_000),
            ..lab()
        },
    );
    assert_eq!(
        expected.report.verdict,
        Verdict::NoLeak,
        "{}",
        expected.report.reason
    );
}

#[test]
fn a_slow_leak_is_suspected_before_it_is_confirmed() {
    let trace = Trace {
        keeps: Keeps::PerToken,
        limit: 1 << 30,
        rate: 4.0,
        seconds: 600,
        ..Trace::default()
    };
    let run = run(trace);
    run.expect(
        Verdict::Suspect,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    assert_eq!(run.first(Verdict::Leak), None);
}

#[test]
fn a_cache_that_is_cleared_is_cleared_of_suspicion() {
    // A half-full cache is above the growth budget and is confirmed by mistake: it cannot be distinguished from a
    // leak.
    let run = run(Trace {
        keeps: Keeps::Batch(70),
        seconds: 90,
        limit: 40 << 20,
        ..Trace::default()
    });
    assert!(
        run.first(Verdict::Leak)
            .is_some_and(|seconds| seconds >= 40.0),
        "{:?}",
        run.verdicts
    );
    assert!(
        run.verdicts
            .iter()
            .all(|(s, verdict)| *s < 72.0 || *verdict == Verdict::NoLeak),
        "{:?}",
        run.verdicts
    );
}

#[test]
fn slow_requests_mature_late_and_are_counted_right() {
    // p99 is 8 s, so blocks mature 32 s after their request's end
    let trace = Trace {
        keeps: Keeps::PerToken,
        latency: |_| 8.0,
        seconds: 120,
        limit: 64 << 20,
        ..Trace::default()
    };
    let slow = run(trace);
    let top = slow.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    assert!(near(top.retained_bytes_per_new_token, 1_900.0), "{top:#?}");
    assert!(
        slow.first(Verdict::Suspect)
            .is_some_and(|seconds| seconds >= 40.0),
        "{:?}",
        slow.verdicts
    );
    let innocent = run(Trace {
        keeps: Keeps::Nothing,
        ..trace
    });
    innocent.expect_quiet(0.0);
}

/// Allocator probes do not see objects in a heap that is not read.
#[test]
fn a_heap_that_is_not_read_is_never_cleared() {
    let unseen = |keeps| {
        run(Trace {
            keeps,
            seconds: 120,
            limit: 64 << 20,
            heap_unseen: true,
            ..Trace::default()
        })
    };
    let quiet = unseen(Keeps::Nothing);
    assert_eq!(quiet.first(Verdict::NoLeak), None);
    assert_eq!(quiet.report.verdict, Verdict::InsufficientEvidence);
    assert!(
        quiet.report.reason.contains("node.js"),
        "{}",
        quiet.report.reason
    );
    // Leaks of allocated blocks are found as usual.
    let leak = unseen(Keeps::PerToken);
    leak.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
}
