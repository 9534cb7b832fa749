//! What an earlier observation of the same service or process has found counts after a restart of heaptide.

use heaptide_judge::events::{MemorySample, Nanos, Observation};
use heaptide_judge::pipeline::{Pipeline, Plateaus, Remembered};
use heaptide_judge::report::{FindingState, Report, Verdict};

use super::judged::lab;
use super::signal_trace::{Holds, SignalTrace};
use super::signal_world;
use super::world::{Keeps, Trace, generate};

/// A leak per token that is confirmed in time.
fn leak() -> Trace {
    Trace {
        keeps: Keeps::PerToken,
        seconds: 90,
        limit: 64 << 20,
        ..Trace::default()
    }
}

pub(crate) fn found() -> Vec<Remembered> {
    let mut pipeline = Pipeline::new(lab());
    for observation in &generate(leak()).0 {
        pipeline.observe(observation);
    }
    let remembered = pipeline.to_remember();
    assert_eq!(remembered.len(), 1, "{:#?}", pipeline.report());
    remembered
}

/// A process without traffic, with these resident anonymous bytes.
fn idle(pipeline: &mut Pipeline, from: u64, seconds: u64, anonymous: u64) -> Report {
    for second in from..from + seconds {
        pipeline.observe(&Observation::Memory(MemorySample {
            at: Nanos::from_seconds(5_000.0 + second as f64),
            rss: anonymous,
            rss_anon: anonymous,
            used: anonymous,
            limit: Some(64 << 20),
            ..MemorySample::default()
        }));
    }
    pipeline.report()
}

#[test]
fn a_confirmed_leak_stands_until_its_memory_is_released() {
    let remembered = found();
    let held = remembered[0].anonymous_bytes;
    let kept = remembered[0].finding.retained_bytes;
    let mut pipeline = Pipeline::new(lab());
    pipeline.remember(remembered);
    let report = idle(&mut pipeline, 0, 200, held);
    assert_eq!(report.verdict, Verdict::Leak, "{}", report.reason);
    assert_eq!(report.findings[0].state, FindingState::Confirmed);
    assert!(report.findings[0].evidence[0].contains("still held"));
    assert_eq!(pipeline.to_remember().len(), 1);
    let report = idle(&mut pipeline, 200, 5, held - kept / 4);
    assert_eq!(report.verdict, Verdict::Leak, "a quarter is garbage");
    let report = idle(&mut pipeline, 205, 5, held - kept * 3 / 4);
    assert_eq!(report.verdict, Verdict::InsufficientEvidence);
    assert!(pipeline.to_remember().is_empty());
}

#[test]
fn traffic_that_keeps_nothing_refutes_it() {
    let mut pipeline = Pipeline::new(lab());
    let mut remembered = found();
    // The simulated process of the other trace is smaller.
    remembered[0].anonymous_bytes = 0;
    pipeline.remember(remembered);
    let fixed = Trace {
        keeps: Keeps::Nothing,
        seconds: 120,
        ..leak()
    };
    let mut verdicts = Vec::new();
    for observation in &generate(fixed).0 {
        pipeline.observe(observation);
        if matches!(observation, Observation::Snapshot(_)) {
            verdicts.push(pipeline.report().verdict);
        }
    }
    assert_eq!(verdicts.get(20), Some(&Verdict::Leak), "{verdicts:?}");
    assert_eq!(verdicts.last(), Some(&Verdict::NoLeak), "{verdicts:?}");
}

#[test]
fn a_leak_that_goes_on_stays_confirmed_as_one_finding() {
    let mut pipeline = Pipeline::new(lab());
    let mut remembered = found();
    remembered[0].anonymous_bytes = 0;
    pipeline.remember(remembered);
    for observation in &generate(Trace {
        seconds: 60,
        limit: 1 << 40,
        ..leak()
    })
    .0
    {
        pipeline.observe(observation);
        if matches!(observation, Observation::Snapshot(_)) {
            let report = pipeline.report();
            assert_eq!(report.verdict, Verdict::Leak, "{}", report.reason);
            let leaks = report.findings.iter();
            let leaks = leaks.filter(|finding| finding.state > FindingState::None);
            assert_eq!(leaks.count(), 1, "{:#?}", report.findings);
        }
    }
    let report = pipeline.report();
    assert!(report.findings[0].growth_bytes_per_second > 0.0);
}

#[test]
fn a_container_that_was_full_is_not_suspected_while_it_fills_again() {
    let replay = |plateaus: &Plateaus| {
        let mut pipeline = Pipeline::new(lab());
        pipeline.learn(plateaus);
        let mut suspected = false;
        for observation in &signal_world::generate(SignalTrace {
            holds: Holds::Lru(1_024),
            before: 0.0,
            seconds: 160.0,
            ..SignalTrace::default()
        }) {
            pipeline.observe(observation);
            if matches!(observation, Observation::Memory(_)) {
                suspected |= pipeline.report().verdict == Verdict::Suspect;
            }
        }
        (suspected, pipeline.plateaus().clone())
    };
    let (suspected, learned) = replay(&Plateaus::default());
    assert!(suspected && !learned.is_empty());
    let (suspected, again) = replay(&learned);
    assert!(!suspected);
    assert_eq!(again, learned);
}

#[test]
fn a_container_that_leaks_is_no_plateau() {
    let mut pipeline = Pipeline::new(lab());
    for observation in &signal_world::generate(SignalTrace {
        holds: Holds::PerToken,
        stop: 80.0,
        seconds: 200.0,
        ..SignalTrace::default()
    }) {
        pipeline.observe(observation);
    }
    let report = pipeline.report();
    let container = report.findings[0].container.as_ref().expect("a container");
    let plateaus = format!("{:?}", pipeline.plateaus());
    assert!(!plateaus.contains(&container.path), "{plateaus}");
    assert!(
        matches!(report.verdict, Verdict::Leak | Verdict::Suspect),
        "{}",
        report.reason
    );
}
