//! Caches that were full long before the observation: they free as much as they add, and are never suspected.

use heaptide_judge::report::{FindingState, Verdict};

use super::judged::run;
use super::world::{Keeps, Trace};

/// 50 new tokens per second, so half of them on the route with the cache.
const FULL: &[(Keeps, u64)] = &[
    (Keeps::Lru(500), 120),
    (Keeps::Lru(5_000), 600),
    (Keeps::Ttl(300.0), 700),
    (Keeps::Ttl(40.0), 100),
];

#[test]
fn a_cache_that_was_full_before_is_not_suspected() {
    for (keeps, before) in FULL {
        for rate in [40.0, 100.0] {
            // Slow traffic needs more time to fill the cache.
            let before = (*before as f64 * 100.0 / rate) as u64;
            let trace = Trace {
                keeps: *keeps,
                before,
                rate,
                seconds: 90,
                ..Trace::default()
            };
            let run = run(trace);
            run.expect_quiet(0.0);
            assert_eq!(
                run.report.verdict,
                Verdict::NoLeak,
                "{trace:?}: {}",
                run.report.reason
            );
        }
    }
}

#[test]
fn the_same_where_the_allocator_does_not_say_sizes() {
    let run = run(Trace {
        keeps: Keeps::Lru(5_000),
        before: 600,
        unsized_frees: true,
        seconds: 90,
        ..Trace::default()
    });
    run.expect_quiet(0.0);
    assert_eq!(run.report.verdict, Verdict::NoLeak, "{}", run.report.reason);
}

/// Its entries were smaller before, so no block that is freed has the size of one that is kept.
#[test]
fn a_full_cache_whose_entries_became_larger_is_not_suspected() {
    let run = run(Trace {
        keeps: Keeps::Lru(5_000),
        before: 600,
        older_size: 0.4,
        seconds: 60,
        ..Trace::default()
    });
    run.expect_quiet(0.0);
}

/// The cache frees blocks of other sizes than the leak keeps. That may delay the finding, but not clear the leak.
#[test]
fn blocks_of_other_sizes_that_are_freed_never_clear_a_leak() {
    for older_size in [0.3, 0.6, 0.9] {
        let run = run(Trace {
            keeps: Keeps::CacheAndLeak(2_000),
            before: 200,
            older_size,
            seconds: 90,
            ..Trace::default()
        });
        assert!(
            run.first(Verdict::NoLeak).is_none(),
            "{older_size}: {:?}",
            run.verdicts
        );
        assert!(
            run.first(Verdict::Suspect).is_some(),
            "{older_size}: {:?}",
            run.verdicts
        );
    }
}

#[test]
fn a_full_cache_beside_a_leak_does_not_hide_it() {
    for unsized_frees in [false, true] {
        let run = run(Trace {
            keeps: Keeps::CacheAndLeak(2_000),
            before: 200,
            unsized_frees,
            seconds: 60,
            ..Trace::default()
        });
        let growing = run.report.findings.iter();
        let growing = growing.filter(|finding| finding.state > FindingState::None);
        let functions: Vec<&str> = growing
            .flat_map(|finding| std::iter::once(&finding.site).chain(&finding.also))
            .map(|site| site.function.as_str())
            .collect();
        // Without sizes it is not known which of the two frees blocks.
        let found = if unsized_frees {
            functions.contains(&"introspect")
        } else {
            functions == ["introspect"]
        };
        assert!(found, "{unsized_frees}: {functions:?}");
        let at = run.first(Verdict::Suspect);
        assert!(at.is_some_and(|at| at <= 20.0), "{:?}", run.verdicts);
    }
}
