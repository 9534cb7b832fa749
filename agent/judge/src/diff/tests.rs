//! Comparisons of reports with known contents. `tests/replay/diff.rs` compares judged runs.

use super::*;
use crate::fixtures::{bound, insufficient, leak, no_leak, suspect};
use crate::report::{Basis, Bound, ContainerSummary, Precision, UNDECIDED, Verdict};

/// A run of the same traffic in which nothing grows and nothing could be missed.
fn fixed() -> Report {
    let mut report = leak();
    report.verdict = Verdict::NoLeak;
    report.findings.clear();
    report.bound = Some(bound(500.0));
    report
}

fn only(diff: &Diff) -> &Change {
    match &diff.changes[..] {
        [change] => change,
        _ => panic!("not one change: {diff:#?}"),
    }
}

fn kind(before: &Report, after: &Report) -> Kind {
    only(&compare(before, after)).kind
}

#[test]
fn a_report_does_not_differ_from_itself() {
    for report in [leak(), suspect(), no_leak()] {
        let diff = compare(&report, &report);
        assert_eq!(diff.outcome, Outcome::NoDifference, "{diff:#?}");
        assert_eq!(diff.exit_code(), 0);
    }
}

#[test]
fn too_little_evidence_is_no_proof() {
    let diff = compare(&leak(), &insufficient());
    let change = only(&diff);
    assert_eq!(change.kind, Kind::CannotTell);
    assert!(
        change.reason.contains("blocks were lost"),
        "{}",
        change.reason
    );
    assert_eq!((diff.outcome, diff.exit_code()), (Outcome::CannotTell, 4));
    assert_eq!(kind(&insufficient(), &leak()), Kind::CannotTell);
    // Nothing was found, but something may be new, or gone.
    let diff = compare(&fixed(), &insufficient());
    assert_eq!((diff.outcome, diff.exit_code()), (Outcome::CannotTell, 4));
    let diff = compare(&insufficient(), &fixed());
    assert_eq!((diff.outcome, diff.exit_code()), (Outcome::CannotTell, 0));
    // If only the size of the bound prevents a verdict, it still tells something.
    let mut open = fixed();
    open.verdict = Verdict::InsufficientEvidence;
    assert_eq!(kind(&leak(), &open), Kind::Gone);
}

#[test]
fn only_what_would_have_been_seen_is_gone() {
    let told = |after: &Report| {
        let diff = compare(&leak(), after);
        let change = only(&diff).clone();
        (change.kind, change.reason)
    };
    assert_eq!(told(&fixed()).0, Kind::Gone);
    // 1,946 B for each of 12,410 tokens in 64 s are 376 kB per second.
    let mut blind = fixed();
    blind.bound = Some(bound(400_000.0));
    let (kind, why) = told(&blind);
    assert_eq!(kind, Kind::CannotTell);
    assert!(why.contains("could have missed growth"), "{why}");
    blind.bound = None;
    assert_eq!(told(&blind).0, Kind::CannotTell);
    // Requests that were followed one by one count.
    blind.bound = Some(Bound {
        one_in_requests: Some(8_000.0),
        ..bound(400_000.0)
    });
    let (kind, why) = told(&blind);
    assert_eq!(kind, Kind::Gone, "{why}");
    assert!(why.contains("followed about"), "{why}");
    // The leak's route was not used.
    let mut unused = fixed();
    unused.routes.retain(|route| route.route != "GET /api/data");
    let (kind, why) = told(&unused);
    assert_eq!(kind, Kind::CannotTell);
    assert!(why.contains("only 0 such requests"), "{why}");
    // It may not see other memory than that of its own finding.
    let mut other = leak();
    other.findings[0].route = "GET /health".to_owned();
    other.findings[0].site.function = "health".to_owned();
    let diff = compare(&leak(), &other);
    assert!(
        diff.changes
            .iter()
            .all(|change| change.kind == Kind::CannotTell)
    );
}

#[test]
fn a_bound_covers_the_findings_of_its_run() {
    let mut after = leak();
    after.findings[0].route = "GET /health".to_owned();
    after.findings[0].site.function = "health".to_owned();
    after.bound = Some(bound(60_000.0));
    let kinds = |after: &Report| -> Vec<Kind> {
        let diff = compare(&leak(), after);
        diff.changes.iter().map(|change| change.kind).collect()
    };
    // 43 kB of the 60 kB per second are its finding.
    assert_eq!(kinds(&after), [Kind::Gone, Kind::CannotTell]);
    after.bound = Some(bound(1_000.0));
    assert_eq!(
        kinds(&after),
        [Kind::CannotTell; 2],
        "a bound that is too small for its finding"
    );
}

/// The report of several processes has the traffic of all, and the bound of one.
#[test]
fn each_worker_may_have_missed_as_much() {
    let worker = |pid| crate::report::ProcessSummary {
        pid,
        verdict: Verdict::NoLeak,
        requests: 6_000,
        rss_bytes: 1 << 20,
        retained_bytes: 0,
    };
    let mut workers = fixed();
    workers.bound = Some(bound(100_000.0));
    assert_eq!(kind(&leak(), &workers), Kind::Gone);
    workers.processes = (1..=4).map(worker).collect();
    assert_eq!(kind(&leak(), &workers), Kind::CannotTell);
}

#[test]
fn a_bounded_cache_is_a_fix_if_more_was_kept_before() {
    let mut bounded = no_leak();
    bounded.bound = Some(bound(500.0));
    bounded.findings[0].retained_bytes = 2_000_000;
    assert_eq!(kind(&leak(), &bounded), Kind::Gone);
    // The first run may be the same cache while it fills.
    bounded.findings[0].retained_bytes = 20_000_000;
    let diff = compare(&leak(), &bounded);
    assert_eq!(only(&diff).kind, Kind::CannotTell);
    assert!(only(&diff).reason.contains("bounded cache"));
}

#[test]
fn lower_bounds_are_told_apart_from_amounts() {
    let part = |report: &mut Report| {
        report.findings[0].retained_is_lower_bound = true;
        report.findings[0].precision = report.findings[0].precision.map(|precision| Precision {
            is_part: true,
            ..precision
        });
    };
    let mut less = leak();
    less.findings[0].retained_bytes_per_new_token = 1_000.0;
    let (mut low, mut low_less) = (leak(), less.clone());
    part(&mut low);
    part(&mut low_less);
    assert_eq!(kind(&low, &less), Kind::Shrunk, "at least twice as much");
    assert_eq!(kind(&less, &low), Kind::Grown);
    assert_eq!(kind(&low_less, &leak()), Kind::CannotTell);
    assert_eq!(kind(&leak(), &low_less), Kind::CannotTell);
    assert_eq!(kind(&low, &low), Kind::CannotTell);
}

/// Of half as many tokens it is known that they keep something: the others may have been known before the attach.
#[test]
fn tokens_that_were_known_before_do_not_look_like_a_fix() {
    let mut diluted = leak();
    let finding = &mut diluted.findings[0];
    finding.retained_bytes_per_new_token *= 0.9;
    finding.precision = finding.precision.map(|precision| Precision {
        keeping_tokens: 11_160,
        ..precision
    });
    let diff = compare(&leak(), &diluted);
    assert_eq!(diff.outcome, Outcome::NoDifference, "{diff:#?}");
    let finding = &mut diluted.findings[0];
    finding.retained_bytes_per_new_token *= 0.5;
    finding.precision = finding.precision.map(|precision| Precision {
        keeping_tokens: 5_580,
        ..precision
    });
    let diff = compare(&leak(), &diluted);
    assert_eq!(only(&diff).kind, Kind::CannotTell);
    assert!(only(&diff).reason.contains("knew before"), "{diff:#?}");
}

#[test]
fn a_leak_is_recognised_by_its_code() {
    let change = |edit: fn(&mut Finding)| {
        let mut after = leak();
        after.bound = Some(bound(43_500.0));
        edit(&mut after.findings[0]);
        let mut before = leak();
        before.bound = after.bound;
        compare(&before, &after)
    };
    let same: [fn(&mut Finding); 6] = [
        |one| one.site.line = Some(90),
        |one| one.site.file = Some("/build/2/app.py".to_owned()),
        |one| one.site.function = "get_data::h0123456789abcdef".to_owned(),
        |one| {
            one.site.function = "(unknown)".to_owned();
            one.site.line = Some(19);
        },
        |one| {
            one.also = vec![one.site.clone()];
            one.site.function = "json_loads".to_owned();
        },
        // Renamed.
        |one| {
            one.site.function = "load".to_owned();
            one.site.stack.clear();
        },
    ];
    for (at, edit) in same.into_iter().enumerate() {
        let diff = change(edit);
        assert_eq!(only(&diff).kind, Kind::Same, "{at}: {diff:#?}");
    }
    // It is not renamed if it keeps another amount.
    let diff = change(|one| {
        one.site.function = "load".to_owned();
        one.site.stack.clear();
        one.retained_bytes_per_new_token = 500.0;
    });
    assert_eq!(diff.changes.len(), 2, "{diff:#?}");
    // One run knows the process only.
    let diff = change(|one| {
        one.site = crate::report::SiteSummary {
            function: "(unknown)".to_owned(),
            file: None,
            line: None,
            module: String::new(),
            retained_bytes: 0,
            stack: vec![],
        };
        one.basis = Basis::Process;
    });
    assert_eq!(only(&diff).kind, Kind::CannotTell, "{diff:#?}");
    assert!(only(&diff).reason.contains("whole process"), "{diff:#?}");
    // Neither route nor site is known.
    let diff = change(|one| {
        one.site.function = "(unknown)".to_owned();
        one.site.file = None;
        one.route = UNDECIDED.to_owned();
        one.cause = Cause::Indeterminate;
    });
    assert_eq!(only(&diff).kind, Kind::CannotTell, "{diff:#?}");
}

#[test]
fn findings_that_one_run_joins_are_compared_together() {
    let mut apart = leak();
    let mut half = apart.findings[0].clone();
    half.site.function = "also_here".to_owned();
    half.site.line = Some(70);
    half.site.stack.clear();
    for one in [&mut apart.findings[0], &mut half] {
        one.retained_bytes_per_new_token /= 2.0;
    }
    let mut joined = leak();
    joined.findings[0].also = vec![half.site.clone()];
    apart.findings.push(half);
    let diff = compare(&joined, &apart);
    assert_eq!(only(&diff).kind, Kind::Same, "{diff:#?}");
    // One of them is fixed.
    apart.findings.truncate(1);
    let diff = compare(&joined, &apart);
    assert_eq!(only(&diff).kind, Kind::Shrunk, "{diff:#?}");
    assert_eq!(only(&diff).sites_before[0].function, "also_here");
    assert!(only(&diff).sites_after.is_empty());
}

/// A container that gains `entries`, one for each of `per_request` requests.
fn container(entries: u64, per_request: f64, bytes: f64) -> Report {
    let mut report = leak();
    let finding = &mut report.findings[0];
    finding.basis = Basis::Container;
    finding.cause = Cause::PerRequest;
    finding.precision = Some(Precision::default());
    finding.container = Some(ContainerSummary {
        path: "app.cache".to_owned(),
        kind: "dict".to_owned(),
        entries_start: 100,
        entries_end: 100 + entries,
        entries_per_new_token: None,
        entries_per_request: Some(per_request),
        bytes_per_entry: Some(bytes),
    });
    report
}

#[test]
fn containers_are_compared_by_entries() {
    let base = container(10_000, 0.4, 2_000.0);
    assert_eq!(kind(&base, &container(9_000, 0.41, 2_010.0)), Kind::Same);
    assert_eq!(kind(&base, &container(9_000, 0.4, 2_064.0)), Kind::Grown);
    assert_eq!(kind(&base, &container(5_000, 0.2, 2_000.0)), Kind::Shrunk);
    let both_ways = container(5_000, 0.2, 4_000.0);
    assert_eq!(kind(&base, &both_ways), Kind::CannotTell);
    // The bytes are an estimate from the process.
    let mut rough = container(10_000, 0.4, 2_400.0);
    rough.findings[0].precision = Some(Precision {
        is_of_process: true,
        ..Precision::default()
    });
    assert_eq!(kind(&base, &rough), Kind::Same);
}

#[test]
fn causes_and_routes_that_differ_are_not_compared() {
    let mut other = leak();
    other.findings[0].cause = Cause::PerRequest;
    let diff = compare(&leak(), &other);
    assert_eq!(only(&diff).kind, Kind::CannotTell);
    assert!(only(&diff).reason.contains("different causes"));
    let mut moved = container(10_000, 0.4, 2_000.0);
    moved.findings[0].route = "GET /health".to_owned();
    let diff = compare(&container(10_000, 0.4, 2_000.0), &moved);
    assert!(only(&diff).reason.contains("different routes"), "{diff:#?}");
}

#[test]
fn a_timer_is_compared_per_second() {
    let timer = |rate: f64| {
        let mut report = leak();
        let finding = &mut report.findings[0];
        finding.cause = Cause::Background;
        finding.route = "(background)".to_owned();
        finding.growth_bytes_per_second = rate;
        finding.precision = Some(Precision {
            per_second: rate / 50.0,
            ..Precision::default()
        });
        report
    };
    assert_eq!(kind(&timer(1_000.0), &timer(1_100.0)), Kind::Same);
    assert_eq!(kind(&timer(1_000.0), &timer(2_000.0)), Kind::Grown);
    assert_eq!(only(&compare(&timer(1e3), &timer(1e3))).unit, Unit::Second);
    assert_eq!(kind(&timer(40_000.0), &fixed()), Kind::Gone);
}

/// Anyone may have written a report.
#[test]
fn absurd_reports_do_no_harm() {
    let mut values = vec![
        0.0,
        -1.0,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NAN,
        1e-300,
    ];
    let mut reports = vec![];
    while let Some(value) = values.pop() {
        let mut report = container(u64::MAX - 100, value, value);
        let mut blocks = leak();
        for one in [&mut report, &mut blocks] {
            one.bound = Some(bound(value));
            one.window.seconds = value;
            one.window.requests = 0;
            let finding = &mut one.findings[0];
            finding.retained_bytes_per_new_token = value;
            finding.retained_bytes_per_request = value;
            finding.growth_bytes_per_second = value;
            finding.new_tokens = 0;
            finding.precision = Some(Precision {
                per_new_token: value,
                per_keeping_token: value,
                per_request: value,
                per_second: value,
                keeping_tokens: u64::MAX,
                ..Precision::default()
            });
        }
        reports.extend([report, blocks]);
    }
    let mut many = leak();
    many.findings = vec![many.findings[0].clone(); 400];
    for (at, one) in many.findings.iter_mut().enumerate() {
        one.site.function = format!("f{at}");
        one.also = vec![one.site.clone(); 40];
    }
    reports.extend([many, fixed()]);
    for a in &reports {
        for b in &reports {
            let diff = compare(a, b);
            assert!(diff.changes.len() <= 2 * MOST_FINDINGS);
            for amount in diff
                .changes
                .iter()
                .flat_map(|one| [one.before, one.after])
                .flatten()
            {
                assert!(amount.bytes.is_finite() && amount.error.is_finite());
            }
        }
    }
    let diff = compare(&reports[reports.len() - 2], &fixed());
    assert!(
        diff.notes
            .iter()
            .any(|note| note.contains("only 200 were compared"))
    );
}
