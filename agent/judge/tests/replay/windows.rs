//! Allocations that are traced in windows: the process tells between them whether it grows as a window found.

use heaptide_judge::events::{MemorySample, Observation};
use heaptide_judge::pipeline::Pipeline;
use heaptide_judge::report::{FindingState, Report, Verdict};

use super::judged::lab;
use super::restart::found;
use super::world::{Keeps, Trace, generate};

/// The reports of `trace` by second, if allocations are traced from the first to the second of each pair of seconds.
/// `memory` may change what the process is seen to use.
fn reports(
    trace: Trace,
    windows: &[(f64, f64)],
    memory: fn(&mut MemorySample, f64),
) -> Vec<(f64, Report)> {
    replayed(Pipeline::new(lab()), trace, windows, memory)
}

/// The same with a pipeline that knows something already.
fn replayed(
    mut pipeline: Pipeline,
    trace: Trace,
    windows: &[(f64, f64)],
    memory: fn(&mut MemorySample, f64),
) -> Vec<(f64, Report)> {
    let mut start = None;
    let mut open = None;
    let mut out = Vec::new();
    for mut observation in generate(trace).0 {
        let Some(at) = observation.at() else {
            pipeline.observe(&observation);
            continue;
        };
        let second = at.since(*start.get_or_insert(at));
        let now = windows.iter().find(|one| (one.0..one.1).contains(&second));
        if now.copied() != open {
            open = now.copied();
            pipeline.observe(&Observation::Window(at, open.is_some()));
        }
        match (&mut observation, open) {
            (Observation::Snapshot(_), None) => continue,
            (Observation::Snapshot(snapshot), Some((from, _))) => {
                let start = start.unwrap_or(at);
                snapshot
                    .groups
                    .retain(|group| group.born >= start.plus(from));
            }
            (Observation::Memory(sample), _) => memory(sample, second),
            _ => {}
        }
        pipeline.observe(&observation);
        if matches!(observation, Observation::Memory(_)) {
            out.push((second, pipeline.report()));
        }
    }
    out
}

fn leak() -> Trace {
    Trace {
        keeps: Keeps::PerToken,
        seconds: 400,
        limit: 96 << 20,
        ..Trace::default()
    }
}

fn states(reports: &[(f64, Report)]) -> Vec<(f64, Verdict)> {
    let mut out: Vec<(f64, Verdict)> = Vec::new();
    for (second, report) in reports {
        if out.last().is_none_or(|last| last.1 != report.verdict) {
            out.push((*second, report.verdict));
        }
    }
    out
}

#[test]
fn the_growth_of_the_process_after_a_window_confirms_what_it_found() {
    let reports = reports(leak(), &[(0.0, 20.0)], |_, _| ());
    let states = states(&reports);
    assert_eq!(
        states.last().map(|last| last.1),
        Some(Verdict::Leak),
        "{states:?}"
    );
    assert!(
        states.last().is_some_and(|last| last.0 < 150.0),
        "{states:?}"
    );
    let report = &reports[reports.len() - 1].1;
    let said = report.findings[0].evidence.iter();
    assert!(
        said.clone().any(|said| said.contains("after the window")),
        "{said:?}"
    );
}

#[test]
fn a_process_that_does_not_grow_confirms_nothing() {
    let flat = |sample: &mut MemorySample, second: f64| {
        if second > 20.0 {
            sample.rss_anon = 40 << 20;
        }
    };
    let reports = reports(leak(), &[(0.0, 20.0)], flat);
    let states = states(&reports);
    assert!(
        states.iter().all(|state| state.1 != Verdict::Leak),
        "{states:?}"
    );
}

/// The cache is smaller than the growth budget, and what its window predicts would exceed it.
#[test]
fn a_cache_that_stops_to_grow_after_the_window_is_not_confirmed() {
    let cache = Trace {
        keeps: Keeps::Lru(1_000),
        ..leak()
    };
    let reports = reports(cache, &[(0.0, 20.0)], |_, _| ());
    let states = states(&reports);
    assert!(
        states.iter().all(|state| state.1 != Verdict::Leak),
        "{states:?}"
    );
}

#[test]
fn a_confirmed_leak_stays_confirmed_in_the_next_windows() {
    let reports = reports(
        leak(),
        &[(0.0, 20.0), (180.0, 205.0), (300.0, 325.0)],
        |_, _| (),
    );
    let states = states(&reports);
    assert_eq!(
        states.last().map(|last| last.1),
        Some(Verdict::Leak),
        "{states:?}"
    );
    assert!(
        states.last().is_some_and(|last| last.0 < 150.0),
        "{states:?}"
    );
    for (second, report) in reports.iter().filter(|one| one.0 > 150.0) {
        let confirmed = report.findings.iter();
        let confirmed = confirmed.filter(|one| one.state == FindingState::Confirmed);
        assert_eq!(confirmed.count(), 1, "{second} {:#?}", report.findings);
    }
}

/// A leak whose traffic ends: the next window sees nothing grow, and the memory is still held.
#[test]
fn a_confirmed_leak_stands_while_its_memory_is_held() {
    let ends = Trace {
        load: |second| if second > 150.0 { 0.01 } else { 1.0 },
        ..leak()
    };
    let windows = [(0.0, 20.0), (180.0, 205.0), (300.0, 325.0)];
    let held = reports(ends, &windows, |_, _| ());
    let states_held = states(&held);
    assert_eq!(
        states_held.last().map(|last| last.1),
        Some(Verdict::Leak),
        "{states_held:?}"
    );
    let released = |sample: &mut MemorySample, second: f64| {
        if second > 250.0 {
            sample.rss_anon = 30 << 20;
        }
    };
    let gone = states(&reports(ends, &windows, released));
    assert_ne!(
        gone.last().map(|last| last.1),
        Some(Verdict::Leak),
        "{gone:?}"
    );
}

/// The traffic ends within a long window: at its end nothing grows any more.
#[test]
fn a_leak_that_stopped_within_its_window_stands_too() {
    let ends = Trace {
        load: |second| if second > 120.0 { 0.01 } else { 1.0 },
        ..leak()
    };
    let reports = reports(ends, &[(0.0, 140.0), (200.0, 225.0)], |_, _| ());
    let states = states(&reports);
    assert_eq!(
        states.last().map(|last| last.1),
        Some(Verdict::Leak),
        "{states:?}"
    );
}

#[test]
fn what_was_refuted_does_not_come_back_with_the_next_window() {
    let mut pipeline = Pipeline::new(lab());
    let mut remembered = found();
    // The simulated process of the other trace is smaller.
    remembered[0].anonymous_bytes = 0;
    pipeline.remember(remembered);
    let fixed = Trace {
        keeps: Keeps::Nothing,
        ..leak()
    };
    let windows = [(0.0, 140.0), (200.0, 225.0), (300.0, 325.0)];
    let states = states(&replayed(pipeline, fixed, &windows, |_, _| ()));
    assert_eq!(states[0].1, Verdict::Leak, "{states:?}");
    assert!(
        states.iter().skip(1).all(|state| state.1 != Verdict::Leak),
        "{states:?}"
    );
    assert!(states.len() > 1, "{states:?}");
}
