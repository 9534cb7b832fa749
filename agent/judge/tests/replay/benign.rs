//! Full caches, warm-up and working sets are not leaks.

use heaptide_judge::events::{Container, Observation};
use heaptide_judge::pipeline::Pipeline;
use heaptide_judge::report::{Cause, Verdict};

use super::judged::{lab, run};
use super::signal_trace::SignalTrace;
use super::signal_world;
use super::world::{Keeps, Trace};

#[test]
fn stateless() {
    let run = run(Trace::default());
    run.expect_quiet(0.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
    assert!(run.report.findings.is_empty(), "{:#?}", run.report.findings);
}

#[test]
fn lru() {
    // 300 entries are full after some 10 s, 1,024 after some 30 s.
    for (most, seconds, full) in [(600, 90, 45.0), (1_024, 150, 75.0)] {
        let run = run(Trace {
            keeps: Keeps::Lru(most),
            seconds,
            ..Trace::default()
        });
        run.expect_quiet(full);
        assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
        let top = run.top();
        assert_eq!(top.cause, Cause::BoundedCache, "{top:#?}");
        assert!(top.evicted_bytes > 0);
    }
}

#[test]
fn ttl() {
    let run = run(Trace {
        keeps: Keeps::Ttl(15.0),
        seconds: 120,
        ..Trace::default()
    });
    run.expect_quiet(30.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
    assert_eq!(run.top().cause, Cause::BoundedCache);
}

#[test]
fn ttl_batch() {
    for every in [20, 45] {
        let run = run(Trace {
            keeps: Keeps::Batch(every),
            seconds: 300,
            ..Trace::default()
        });
        run.expect_quiet(every as f64 + 8.0);
        assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
        assert_eq!(run.top().cause, Cause::BoundedCache, "{:#?}", run.top());
    }
}

/// A heap that is collected every 45 s passes the growth budget before. It was once confirmed 40 s after
/// the attach.
#[test]
fn a_sawtooth_of_much_of_the_headroom_is_not_confirmed_before_it_falls() {
    let run = run(Trace {
        keeps: Keeps::Batch(45),
        seconds: 200,
        limit: 48 << 20,
        ..Trace::default()
    });
    run.expect_quiet(54.0);
    assert!(
        run.first(Verdict::Suspect).is_some(),
        "the rising heap was never suspected"
    );
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
}

#[test]
fn warm_up() {
    let run = run(Trace {
        keeps: Keeps::WarmUp(2_000),
        seconds: 120,
        ..Trace::default()
    });
    run.expect_quiet(50.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
    assert_eq!(run.top().cause, Cause::WarmUp, "{:#?}", run.top());
}

#[test]
fn working_set() {
    // Slow handlers come and go: at the peak 100 requests hold 100 KB each.
    let latency = |seconds: f64| 0.01 + 2.0 * (1.0 - (seconds / 60.0 - 1.0).abs());
    let trace = Trace {
        seconds: 120,
        latency,
        working: 100_000,
        ratchet: true,
        ..Trace::default()
    };
    let run = run(trace);
    run.expect_quiet(0.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
    let causes: Vec<Cause> = run
        .report
        .findings
        .iter()
        .map(|finding| finding.cause)
        .collect();
    assert!(causes.contains(&Cause::WorkingSet), "{causes:?}");
    assert!(causes.contains(&Cause::AllocatorRetention), "{causes:?}");
}

/// Verdicts while `functools.lru_cache(maxsize=128)` and instances of the class that it holds grow by one entry per second.
/// `beyond`: the instances go on to grow when the cache is full.
fn verdicts_beside_a_cache(beyond: bool) -> Vec<Verdict> {
    let mut pipeline = Pipeline::new(lab());
    let mut out = Vec::new();
    for observation in &signal_world::generate(SignalTrace {
        seconds: 300.0,
        rate: 20.0,
        ..SignalTrace::default()
    }) {
        let mut observation = observation.clone();
        if let Observation::Census(census) = &mut observation {
            let second = census.at.seconds() - 1_000.0;
            let cached = (second as u64).min(128);
            let instances = if beyond { second as u64 } else { cached };
            let of = |path: &str, kind: &str, entries| Container {
                path: path.to_owned(),
                kind: kind.to_owned(),
                entries,
                ..Container::default()
            };
            census.containers.extend([
                of("urllib.parse.urlsplit", "lru_cache of at most 128", cached),
                of("urllib.parse.SplitResult", "instances", instances),
            ]);
        }
        pipeline.observe(&observation);
        if matches!(observation, Observation::Census(_)) {
            out.push(pipeline.report().verdict);
        }
    }
    out
}

#[test]
fn instances_in_a_cache_with_its_own_bound_are_no_leak() {
    let benign = verdicts_beside_a_cache(false);
    assert!(!benign.contains(&Verdict::Suspect), "{benign:?}");
    let leak = verdicts_beside_a_cache(true);
    assert_eq!(leak.last(), Some(&Verdict::Suspect), "{leak:?}");
}
