//! The bound: a leak that is not found is at most as fast as the bound.

use heaptide_judge::report::Verdict;

use super::judged::run;
use super::world::{Keeps, Trace};

/// Leaks of 0.1 B to some KiB per second, most of them too slow to be found in that time.
#[test]
fn what_is_missed_is_within_the_bound() {
    let mut said = 0;
    for rate in [2.0, 5.0, 20.0, 100.0] {
        for entry in [64, 700, 6_000] {
            for fresh in [0.004, 0.02, 0.1, 0.5] {
                let trace = Trace {
                    keeps: Keeps::PerToken,
                    rate,
                    entry,
                    fresh,
                    seconds: 120,
                    ..Trace::default()
                };
                let run = run(trace);
                // Half of the requests are on the route.
                let truth = rate / 2.0 * fresh * entry as f64;
                // The bound does not cover leaks in fewer requests than it states.
                let one_in = 2.0 / fresh;
                let bounds = run
                    .bounds
                    .iter()
                    .filter(|bound| bound.one_in_requests >= Some(one_in));
                said += u32::from(bounds.clone().next().is_some());
                for bound in bounds {
                    assert!(
                        bound.bytes_per_second >= truth,
                        "{trace:?}: {truth}, {bound:?}"
                    );
                }
            }
        }
    }
    assert!(said >= 10, "the verdict was no_leak in {said} traces only");
}

/// If only the process's memory is observed, growth within free memory is possible. Ruling that out takes time.
#[test]
fn the_horizon_decides() {
    let trace = Trace {
        seconds: 60,
        ..Trace::default()
    };
    let lab = run(trace);
    assert_eq!(lab.report.verdict, Verdict::NoLeak, "{}", lab.report.reason);
    let bound = lab.report.bound.expect("a bound");
    assert!(
        bound.lasts_seconds.is_some_and(|lasts| lasts >= 3_600.0),
        "{bound:?}"
    );
    assert!(
        bound.one_in_requests.is_some_and(|one| one >= 500.0),
        "{bound:?}"
    );
    assert!(
        lab.report.reason.contains("could be leaking (95 %)"),
        "{}",
        lab.report.reason
    );
    let long = super::judged::run_with(
        trace,
        heaptide_judge::pipeline::JudgeOptions {
            horizon_seconds: 3.0e7,
            ..super::judged::lab()
        },
    );
    assert_eq!(
        long.report.verdict,
        Verdict::InsufficientEvidence,
        "{}",
        long.report.reason
    );
    assert!(
        long.report.reason.contains("horizon"),
        "{}",
        long.report.reason
    );
    let more = long.report.bound.and_then(|bound| bound.observe_seconds);
    assert!(more.is_some_and(|more| more > 60.0), "{more:?}");
}

/// The findings explain the growth of the process.
#[test]
fn the_ledger_balances() {
    for keeps in [Keeps::PerToken, Keeps::PerRequest, Keeps::Timer(40)] {
        let run = run(Trace {
            keeps,
            limit: 64 << 20,
            ..Trace::default()
        });
        let ledger = run.report.ledger.expect("a ledger");
        assert!(ledger.gained_bytes > 1 << 20, "{ledger:?}");
        let rest = ledger.unexplained_bytes as f64 / ledger.gained_bytes as f64;
        // Blocks of the last ten seconds are not mature.
        assert!(rest < 0.25, "{keeps:?}: {ledger:?}");
    }
}

/// A table fills between two enlargements, and nothing is allocated meanwhile.
#[test]
fn a_table_fills_within_the_bound() {
    let mut said = 0;
    for rate in [4.0, 10.0, 40.0] {
        for entry in [200, 700, 3_000] {
            let trace = Trace {
                keeps: Keeps::TableOnly(u64::MAX),
                rate,
                entry,
                seconds: 240,
                limit: 1 << 30,
                ..Trace::default()
            };
            let run = run(trace);
            // Half of the requests are on the route.
            let truth = rate / 2.0 * trace.fresh * entry as f64;
            said += run.bounds.len();
            for bound in &run.bounds {
                assert!(
                    bound.bytes_per_second >= truth,
                    "{trace:?}: {truth}, {bound:?}"
                );
            }
        }
    }
    assert!(said >= 10, "the verdict was no_leak {said} times only");
}
