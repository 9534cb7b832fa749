//! Policies on simulated services: none is passed that the service does not keep to, and none is failed that it does.

use heaptide_judge::policy::{Policy, Ruling, judge};

use super::judged::run;
use super::world::{Keeps, Trace};

/// Limits, as parts of the truth.
const PARTS: [f64; 6] = [0.1, 0.5, 0.9, 1.15, 2.0, 100.0];

/// Counts rulings, and checks that none is wrong.
#[derive(Debug, Default)]
struct Tally {
    passed: u32,
    failed: u32,
    open: u32,
}

impl Tally {
    fn count(&mut self, ruling: Ruling, is_kept_to: bool) {
        match ruling {
            Ruling::Passed => {
                assert!(is_kept_to, "passed");
                self.passed += 1;
            }
            Ruling::Failed { .. } => {
                assert!(!is_kept_to, "failed");
                self.failed += 1;
            }
            Ruling::Undecided { .. } => self.open += 1,
        }
    }
}

#[test]
fn none_is_passed_or_failed_wrongly() {
    let mut tally = Tally::default();
    for rate in [5.0, 20.0, 100.0] {
        for entry in [700, 6_000] {
            for seconds in [40, 120] {
                let trace = Trace {
                    keeps: Keeps::PerToken,
                    rate,
                    entry,
                    fresh: 0.5,
                    seconds,
                    ..Trace::default()
                };
                let report = run(trace).report;
                let mut routes = report.routes.iter();
                let route = routes
                    .find(|one| one.retained_bytes > 0)
                    .expect("it keeps memory");
                let new = route.new_tokens as f64 / route.requests as f64;
                // Half of the requests are on the route.
                let per_token = entry as f64;
                let per_request = new * per_token;
                let growth = rate / 2.0 * per_request;
                for part in PARTS {
                    let policies = [
                        Policy::MaxGrowth(part * growth),
                        Policy::MaxKeptPerToken(part * per_token),
                        Policy::MaxKeptPerRequest(part * per_request),
                    ];
                    println!("{rate}/s, {entry} B, {seconds} s, limits {part} of the truth");
                    for outcome in judge(&policies, std::slice::from_ref(&report), &|_| true) {
                        println!("{outcome:?}");
                        tally.count(outcome.ruling, part > 1.0);
                    }
                }
            }
        }
    }
    assert!(tally.passed > 30 && tally.failed > 80, "{tally:?}");
}

/// Nearly all traffic at the beginning, or at the end: the bound may rest on the part without. By the mean rate of requests the
/// policy would be passed.
#[test]
fn a_burst_is_not_taken_for_traffic() {
    for load in [early as fn(f64) -> f64, late] {
        let trace = Trace {
            rate: 50.0,
            seconds: 120,
            load,
            ..Trace::default()
        };
        let report = run(trace).report;
        let bound = report.bound.expect("a bound").bytes_per_second;
        let limit = 2.0 * bound * report.window.seconds / report.routes[2].requests as f64;
        let policies = [Policy::MaxKeptPerRequest(limit)];
        for outcome in judge(&policies, &[report], &|_| true) {
            assert!(
                matches!(outcome.ruling, Ruling::Undecided { .. }),
                "{outcome:?}"
            );
        }
    }
}

fn early(second: f64) -> f64 {
    if second < 20.0 { 1.0 } else { 0.0 }
}

fn late(second: f64) -> f64 {
    if second > 111.0 { 1.0 } else { 0.0 }
}
