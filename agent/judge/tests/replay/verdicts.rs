//! Each kind of leak gets the right verdict, cause, route and site.

use heaptide_judge::events::Observation;
use heaptide_judge::pipeline::{Pipeline, Plateaus};
use heaptide_judge::report::{Cause, FindingState, Verdict};

use super::judged::{lab, near, run};
use super::world::{Keeps, Trace, generate};

#[test]
fn token_keyed() {
    let run = run(Trace {
        keeps: Keeps::PerToken,
        limit: 64 << 20,
        seconds: 80,
        ..Trace::default()
    });
    let top = run.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    assert!(
        run.first(Verdict::Suspect).is_some_and(|s| s <= 16.0),
        "{:?}",
        run.verdicts
    );
    let per_token = top.retained_bytes_per_new_token;
    assert!(near(per_token, 1_900.0), "{per_token}");
    assert_eq!(run.report.window.requests, run.truth.requests);
    assert!(near(
        run.report.window.distinct_tokens as f64,
        run.truth.tokens as f64
    ));
    assert!(top.time_to_oom_seconds.is_some());
    assert_eq!(top.evicted_bytes, 0);
    assert_eq!(top.state, FindingState::Confirmed);
}

#[test]
fn per_request() {
    let run = run(Trace {
        keeps: Keeps::PerRequest,
        limit: 64 << 20,
        ..Trace::default()
    });
    let top = run.expect(
        Verdict::Leak,
        Cause::PerRequest,
        "GET /api/data",
        "get_data",
    );
    assert!(
        run.first(Verdict::Suspect).is_some_and(|s| s <= 16.0),
        "{:?}",
        run.verdicts
    );
    assert!(near(top.retained_bytes_per_request, 1_900.0), "{top:#?}");
    assert!(
        near(top.retained_bytes_per_repeat_token, 1_900.0),
        "{top:#?}"
    );
}

#[test]
fn mixed() {
    let run = run(Trace {
        keeps: Keeps::Both,
        limit: 64 << 20,
        ..Trace::default()
    });
    let top = run.expect(Verdict::Leak, Cause::Mixed, "GET /api/data", "get_data");
    assert!(near(top.retained_bytes_per_new_token, 2_850.0), "{top:#?}");
    assert!(near(top.retained_bytes_per_repeat_token, 950.0), "{top:#?}");
}

#[test]
fn background() {
    let run = run(Trace {
        keeps: Keeps::Timer(40),
        limit: 64 << 20,
        ..Trace::default()
    });
    let top = run.expect(Verdict::Leak, Cause::Background, "(background)", "tick");
    assert!(
        near(top.growth_bytes_per_second, 40.0 * 1_900.0),
        "{top:#?}"
    );
}

#[test]
fn a_timer_that_runs_while_requests_are_open_is_no_leak_of_theirs() {
    let run = run(Trace {
        keeps: Keeps::StrayTimer(50),
        limit: 64 << 20,
        ..Trace::default()
    });
    run.expect(Verdict::Leak, Cause::Background, "(background)", "tick");
    let growing = run
        .report
        .findings
        .iter()
        .filter(|f| f.state != FindingState::None);
    assert_eq!(growing.count(), 1, "{:#?}", run.report.findings);
}

#[test]
fn subject_cache() {
    let run = run(Trace {
        keeps: Keeps::PerSubject(3),
        limit: 48 << 20,
        seconds: 90,
        ..Trace::default()
    });
    let top = run.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    assert!(top.retained_bytes_per_new_token < 1_500.0, "{top:#?}");
}

#[test]
fn all_tokens_fresh_is_indeterminate() {
    for keeps in [Keeps::PerToken, Keeps::PerRequest] {
        let run = run(Trace {
            keeps,
            fresh: 1.0,
            limit: 64 << 20,
            ..Trace::default()
        });
        let top = run.expect(
            Verdict::Leak,
            Cause::Indeterminate,
            "GET /api/data",
            "get_data",
        );
        assert!(
            top.evidence
                .iter()
                .any(|line| line.contains("not known yet")),
            "{top:#?}"
        );
    }
}

#[test]
fn requests_without_a_token_can_show_that_none_is_needed() {
    let run = run(Trace {
        keeps: Keeps::PerRequest,
        anonymous: 1.0,
        limit: 64 << 20,
        ..Trace::default()
    });
    // The simulated service keeps nothing for anonymous requests.
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
}

#[test]
fn a_growing_table_does_not_spoil_the_figures() {
    let trace = Trace {
        keeps: Keeps::PerTokenWithTable,
        limit: 64 << 20,
        seconds: 120,
        ..Trace::default()
    };
    let run = run(trace);
    let top = run.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    // An entry, and its part of a table that is 7/16 to 7/8 full.
    let per_token = top.retained_bytes_per_new_token;
    assert!((1_850.0..2_050.0).contains(&per_token), "{per_token}");
}

/// It was once reported as a bounded cache, because each table is freed when the next one is allocated.
#[test]
fn a_table_that_only_doubles_is_a_leak() {
    let run = run(Trace {
        keeps: Keeps::TableOnly(u64::MAX),
        limit: 64 << 20,
        seconds: 120,
        ..Trace::default()
    });
    let top = run.top();
    assert_eq!(run.report.verdict, Verdict::Leak, "{top:#?}");
    assert!(
        [Cause::TokenKeyed, Cause::Indeterminate].contains(&top.cause),
        "{top:#?}"
    );
    assert_eq!(
        (top.route.as_str(), top.site.function.as_str()),
        ("GET /api/data", "get_data")
    );
    assert!(
        run.first(Verdict::Suspect).is_some_and(|s| s <= 30.0),
        "{:?}",
        run.verdicts
    );
}

#[test]
fn a_table_that_stops_growing_is_none() {
    // It is full after 20 s. Its next enlargement is overdue after twice the expected time.
    let run = run(Trace {
        keeps: Keeps::TableOnly(500),
        seconds: 120,
        ..Trace::default()
    });
    run.expect_quiet(50.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
}

#[test]
fn a_plateau_that_was_learned_is_no_suspicion_after_a_restart() {
    let trace = Trace {
        keeps: Keeps::Lru(600),
        seconds: 120,
        ..Trace::default()
    };
    let (observations, _) = generate(trace);
    let replay = |plateaus: &Plateaus| {
        let mut pipeline = Pipeline::new(lab());
        pipeline.learn(plateaus);
        let mut suspected = false;
        for observation in &observations {
            pipeline.observe(observation);
            if matches!(observation, Observation::Snapshot(_)) {
                suspected |= pipeline.report().verdict == Verdict::Suspect;
            }
        }
        (suspected, pipeline.plateaus().clone())
    };
    let (suspected, learned) = replay(&Plateaus::default());
    assert!(suspected && !learned.is_empty());
    let (suspected, _) = replay(&learned);
    assert!(!suspected);
}

#[test]
fn late_onset() {
    let run = run(Trace {
        keeps: Keeps::Late(120),
        seconds: 200,
        limit: 64 << 20,
        ..Trace::default()
    });
    let top = run.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    let suspected = run.first(Verdict::Suspect).unwrap_or(f64::MAX);
    assert!((130.0..=140.0).contains(&suspected), "{:?}", run.verdicts);
    assert!(
        (top.retained_bytes_per_new_token / 1_900.0 - 1.0).abs() < 0.25,
        "{top:#?}"
    );
}

#[test]
fn a_leak_that_lets_go_of_a_part_is_one() {
    let trace = Trace {
        keeps: Keeps::PartlyEvicted,
        seconds: 120,
        limit: 64 << 20,
        ..Trace::default()
    };
    let run = run(trace);
    let top = run.expect(
        Verdict::Leak,
        Cause::TokenKeyed,
        "GET /api/data",
        "get_data",
    );
    assert!(top.evicted_bytes > 0, "{top:#?}");
}

/// The memory is still held, so the finding remains.
#[test]
fn a_leak_whose_traffic_stops_stays_found() {
    let run = run(Trace {
        keeps: Keeps::PerToken,
        limit: 64 << 20,
        seconds: 300,
        load: |second| if second < 80.0 { 1.0 } else { 0.01 },
        ..Trace::default()
    });
    assert_eq!(run.report.verdict, Verdict::Leak, "{}", run.report.reason);
}

/// If requests cannot be read, growth without a request may be due to them.
#[test]
fn nothing_is_called_background_where_requests_are_unread() {
    let (mut observations, _) = generate(Trace {
        keeps: Keeps::Timer(40),
        limit: 64 << 20,
        ..Trace::default()
    });
    observations.retain(|observation| !matches!(observation, Observation::Request(_)));
    for observation in &mut observations {
        if let Observation::Target(_, info) = observation {
            info.requests_unread = true;
        }
    }
    let mut pipeline = Pipeline::new(lab());
    for observation in &observations {
        pipeline.observe(observation);
    }
    let report = pipeline.report();
    let top = report.findings.first().expect("a finding");
    assert!(top.state > FindingState::None, "{top:#?}");
    assert_eq!(top.cause, Cause::Indeterminate, "{top:#?}");
    assert_eq!(top.route, "(undecided)");
    assert!(
        !report.reason.contains("without requests"),
        "{}",
        report.reason
    );
}

/// Allocator probes do not see objects in the runtime's own heap.
#[test]
fn a_heap_that_is_to_be_read_is_not_cleared_before_it_was() {
    let (mut observations, _) = generate(Trace::default());
    let verdict = |observations: &[Observation]| {
        let mut pipeline = Pipeline::new(lab());
        for observation in observations {
            pipeline.observe(observation);
        }
        pipeline.report().verdict
    };
    assert_eq!(verdict(&observations), Verdict::NoLeak);
    for observation in &mut observations {
        if let Observation::Target(_, info) = observation {
            info.heap_read = true;
        }
    }
    assert_eq!(verdict(&observations), Verdict::InsufficientEvidence);
}
