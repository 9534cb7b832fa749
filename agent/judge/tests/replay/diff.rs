//! Comparisons of two runs of the small services: with different seeds, lengths and rates.

use heaptide_judge::diff::{Change, Diff, Kind, Outcome, compare};
use heaptide_judge::pipeline::Pipeline;
use heaptide_judge::report::{Cause, Report};

use super::judged::lab;
use super::signal_trace::{Holds, SignalTrace};
use super::signal_world;
use super::world::{Keeps, Trace, generate};

/// Pairs of runs per comparison.
const PAIRS: u64 = 20;

/// The report of the blocks of a service. `run` gives it its own tokens, length and rate.
fn blocks(keeps: Keeps, entry: u64, run: u64) -> Report {
    judged(Trace {
        keeps,
        entry,
        ..own(run)
    })
}

fn own(run: u64) -> Trace {
    Trace {
        seed: run,
        seconds: 60 + 5 * (run % 7),
        rate: 80.0 + 10.0 * (run % 5) as f64,
        fresh: 0.4 + 0.05 * (run % 3) as f64,
        ..Trace::default()
    }
}

fn judged(trace: Trace) -> Report {
    let (observations, _) = generate(trace);
    let mut pipeline = Pipeline::new(lab());
    for observation in &observations {
        pipeline.observe(observation);
    }
    pipeline.report()
}

/// The report of the containers of a service.
fn containers(holds: Holds, entry: f64, run: u64) -> Report {
    let observations = signal_world::generate(SignalTrace {
        holds,
        entry,
        seed: 100 + run,
        seconds: 60.0 + 5.0 * (run % 7) as f64,
        rate: 80.0 + 10.0 * (run % 5) as f64,
        ..SignalTrace::default()
    });
    let mut pipeline = Pipeline::new(lab());
    for observation in &observations {
        pipeline.observe(observation);
    }
    pipeline.report()
}

/// The only change of a pair.
fn only(diff: &Diff) -> &Change {
    match &diff.changes[..] {
        [change] => change,
        _ => panic!("not one change: {diff:#?}"),
    }
}

#[test]
fn equal_runs_do_not_differ() {
    for keeps in [
        Keeps::Nothing,
        Keeps::PerToken,
        Keeps::PerRequest,
        Keeps::Both,
        Keeps::PerTokenWithTable,
        Keeps::PerSubject(2),
        Keeps::Timer(20),
        Keeps::Lru(300),
    ] {
        let pairs = match keeps {
            Keeps::Nothing | Keeps::PerToken | Keeps::PerRequest => PAIRS,
            _ => PAIRS / 4,
        };
        for pair in 0..pairs {
            let diff = compare(
                &blocks(keeps, 1_900, 2 * pair),
                &blocks(keeps, 1_900, 2 * pair + 1),
            );
            assert_eq!(
                diff.outcome,
                Outcome::NoDifference,
                "{keeps:?} {pair}: {diff:#?}"
            );
        }
    }
}

/// Losses, sampling, short runs, services that ran before, and unknown causes may prevent an answer, but never give a
/// wrong one.
#[test]
fn equal_runs_do_not_differ_however_they_are_seen() {
    let bad: [fn(Trace) -> Trace; 8] = [
        |trace| Trace {
            sampling: 0.3,
            ..trace
        },
        |trace| Trace {
            lost_frees: 0.02,
            ..trace
        },
        |trace| Trace {
            lost_frees: 0.2,
            ..trace
        },
        |trace| Trace {
            seconds: 12 + trace.seconds / 2,
            ..trace
        },
        |trace| Trace {
            before: 30 * (trace.seed % 4),
            ..trace
        },
        |trace| Trace {
            fresh: 1.0,
            ..trace
        },
        |trace| Trace {
            anonymous: 0.1 * (trace.seed % 5) as f64,
            ..trace
        },
        |trace| Trace {
            rate: if trace.seed.is_multiple_of(2) {
                8.0
            } else {
                200.0
            },
            ..trace
        },
    ];
    let mut told = 0;
    for (at, bad) in bad.into_iter().enumerate() {
        for keeps in [
            Keeps::Nothing,
            Keeps::PerToken,
            Keeps::PerRequest,
            Keeps::Both,
        ] {
            for pair in 0..3 {
                let run = |run| judged(bad(Trace { keeps, ..own(run) }));
                let diff = compare(&run(2 * pair), &run(2 * pair + 1));
                let differs = matches!(diff.outcome, Outcome::Better | Outcome::Worse);
                assert!(!differs, "{at} {keeps:?} {pair}: {diff:#?}");
                told += u64::from(diff.outcome == Outcome::NoDifference);
            }
        }
    }
    // Not by never telling anything.
    assert!(told > 48, "{told} of 96");
}

#[test]
fn a_fixed_leak_is_gone_and_nothing_else() {
    for (keeps, cause) in [
        (Keeps::PerToken, Cause::TokenKeyed),
        (Keeps::PerRequest, Cause::PerRequest),
    ] {
        for pair in 0..PAIRS {
            let leaky = blocks(keeps, 1_900, 2 * pair);
            let fixed = blocks(Keeps::Nothing, 1_900, 2 * pair + 1);
            for (diff, kind) in [
                (compare(&leaky, &fixed), Kind::Gone),
                (compare(&fixed, &leaky), Kind::New),
            ] {
                let change = only(&diff);
                assert_eq!(
                    (change.kind, change.cause, change.route.as_str()),
                    (kind, cause, "GET /api/data"),
                    "{diff:#?}"
                );
                assert_eq!(change.site.function, "get_data");
                assert_eq!(diff.exit_code(), u8::from(kind == Kind::New));
            }
        }
    }
}

#[test]
fn a_leak_that_is_bounded_now_is_gone() {
    for pair in 0..PAIRS {
        let leaky = blocks(Keeps::PerToken, 1_900, 2 * pair);
        let fixed = blocks(Keeps::Lru(100), 1_900, 2 * pair + 1);
        let diff = compare(&leaky, &fixed);
        assert_eq!(only(&diff).kind, Kind::Gone, "{diff:#?}");
    }
}

#[test]
fn sixty_four_bytes_per_token_are_found() {
    for pair in 0..PAIRS {
        let (one, other) = (2 * pair, 2 * pair + 1);
        // More of a leak, and a leak of this size alone.
        let more = compare(
            &blocks(Keeps::PerToken, 1_900, one),
            &blocks(Keeps::PerToken, 1_964, other),
        );
        let change = only(&more);
        assert_eq!(change.kind, Kind::Grown, "{more:#?}");
        let bytes = change.after.expect("it").bytes - change.before.expect("it").bytes;
        assert!((bytes - 64.0).abs() < 1.0, "{more:#?}");
        let less = compare(
            &blocks(Keeps::PerToken, 1_964, one),
            &blocks(Keeps::PerToken, 1_900, other),
        );
        assert_eq!(only(&less).kind, Kind::Shrunk, "{less:#?}");
        let alone = compare(
            &blocks(Keeps::Nothing, 64, one),
            &blocks(Keeps::PerToken, 64, other),
        );
        assert_eq!(only(&alone).kind, Kind::New, "{alone:#?}");
    }
}

#[test]
fn containers_are_compared() {
    let holds = Holds::PerToken;
    for pair in 0..PAIRS {
        let (one, other) = (2 * pair, 2 * pair + 1);
        let leaky = containers(holds, 1_900.0, one);
        let same = compare(&leaky, &containers(holds, 1_900.0, other));
        assert_eq!(same.outcome, Outcome::NoDifference, "{pair} {same:#?}");
        let more = compare(&leaky, &containers(holds, 1_964.0, other));
        assert_eq!(only(&more).kind, Kind::Grown, "{pair} {more:#?}");
        let fixed = compare(&leaky, &containers(Holds::Nothing, 1_900.0, other));
        assert_eq!(only(&fixed).kind, Kind::Gone, "{pair} {fixed:#?}");
        assert_eq!(only(&fixed).route, "GET /api/data");
    }
}
