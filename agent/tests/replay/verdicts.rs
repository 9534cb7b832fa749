//! Each kind of service gets the verdict, cause, route and site that it deserves.
// tidy: table

use heaptide::events::Observation;
use heaptide::pipeline::{JudgeOptions, Pipeline, Plateaus};
use heaptide::report::{Cause, Finding, Report, State, Verdict};

use super::world::{Keeps, Trace, Truth, generate};

/// A judged trace.
struct Run {
    report: Report,
    truth: Truth,
    /// `(seconds, verdict)` after each snapshot.
    verdicts: Vec<(f64, Verdict)>,
}

fn run(trace: Trace) -> Run {
    run_with(trace, JudgeOptions::default())
}

fn run_with(trace: Trace, options: JudgeOptions) -> Run {
    let (observations, truth) = generate(trace);
    let mut pipeline = Pipeline::new(options);
    let mut verdicts = Vec::new();
    for observation in &observations {
        pipeline.observe(observation);
        if matches!(observation, Observation::Snapshot(_)) {
            let report = pipeline.report();
            verdicts.push((report.window.seconds, report.verdict));
        }
    }
    Run {
        report: pipeline.report(),
        truth,
        verdicts,
    }
}

impl Run {
    fn top(&self) -> &Finding {
        self.report
            .findings
            .first()
            .unwrap_or_else(|| panic!("no finding: {:#?}", self.report))
    }

    fn first(&self, verdict: Verdict) -> Option<f64> {
        self.verdicts
            .iter()
            .find(|(_, said)| *said == verdict)
            .map(|(seconds, _)| *seconds)
    }

    fn expect(&self, verdict: Verdict, cause: Cause, route: &str, function: &str) -> &Finding {
        let top = self.top();
        assert_eq!(
            self.report.verdict, verdict,
            "{}\n{top:#?}\n{:?}",
            self.report.reason, self.verdicts
        );
        assert_eq!(top.cause, cause, "{top:#?}");
        assert_eq!(top.route, route);
        assert_eq!(top.site.function, function);
        top
    }

    /// No suspicion at or after `from` seconds, and never a confirmation.
    fn expect_quiet(&self, from: f64) {
        for (seconds, verdict) in &self.verdicts {
            assert_ne!(*verdict, Verdict::Leak, "at {seconds} s");
            assert!(
                *seconds < from || *verdict != Verdict::Suspect,
                "at {seconds} s: {:#?}",
                self.report.findings
            );
        }
    }
}

/// Within a tenth.
fn near(said: f64, truth: f64) -> bool {
    (said / truth - 1.0).abs() <= 0.1
}

#[test]
fn token_keyed() {
    let run = run(Trace {
        keeps: Keeps::PerToken,
        limit: 64 << 20,
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
    assert_eq!(top.state, State::Confirmed);
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
    // the world keeps nothing for anonymous requests
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
    // an entry and its part of a table that is 7/16 to 7/8 full
    let per_token = top.retained_bytes_per_new_token;
    assert!((1_850.0..2_050.0).contains(&per_token), "{per_token}");
}

/// Once taken for a bounded cache, because each table is let go when the next one is there.
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
    // full after 20 s; that its next step does not come shows after twice the time it should have taken
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
        let mut pipeline = Pipeline::new(JudgeOptions::default());
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

#[test]
fn stateless() {
    let run = run(Trace::default());
    run.expect_quiet(0.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
    assert!(run.report.findings.is_empty(), "{:#?}", run.report.findings);
}

#[test]
fn lru() {
    // 300 entries are full after some 10 s, 1,024 after some 30 s
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
    // slow handlers come and go: at the peak 100 requests hold 100 KB each
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
            .all(|finding| finding.state == State::None)
    );
    // lost frees look like a leak of the working memory: never confirmed
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
        cold.top().evidence[0].contains("none let go"),
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
            ..JudgeOptions::default()
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
    // half full it is above the growth budget: confirmed by mistake, as nobody could know better
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
