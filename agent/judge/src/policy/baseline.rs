//! The policy that a service is no worse than an earlier report of it.

use crate::diff::{Change, Kind, Outcome as Compared, compare};
use crate::report::{Finding, FindingState, Report};

use super::evidence::Evidence;
use super::{Outcome, Ruling, lack_sentence, undecided};

/// Judges whether a service is no worse than in a stored report: by the `report` on all its processes together, and by
/// those of `each`.
pub fn against(baseline: &Report, report: &Report, each: &[Report]) -> Outcome {
    let evidence = Evidence::of(each);
    let diff = compare(baseline, report);
    let worse: Vec<&Change> = diff
        .changes
        .iter()
        .filter(|change| matches!(change.kind, Kind::New | Kind::Grown))
        .collect();
    let of = |finding: &&Finding| {
        worse.iter().any(|change| {
            finding.state > FindingState::None
                && finding.cause == change.cause
                && finding.route == change.route
                && finding.site.function == change.site.function
        })
    };
    let (ruling, said, findings) = match diff.outcome {
        Compared::Worse => {
            let is_confirmed =
                |change: &&Change| change.state_after == Some(FindingState::Confirmed);
            let ruling = Ruling::Failed {
                confirmed: worse.iter().any(is_confirmed),
            };
            let findings = report.findings.iter().filter(of).cloned().collect();
            (ruling, diff.reason, findings)
        }
        // That an old leak was seen again does not show that a new one would have been.
        _ if evidence.lack().is_some() => {
            let said = evidence.lack().map(|lack| lack_sentence(lack, &evidence));
            undecided(said.unwrap_or_default(), None)
        }
        _ if diff.may_be_worse => {
            let more = report.bound.and_then(|bound| bound.observe_seconds);
            undecided(diff.reason, more.filter(|seconds| *seconds > 0.0))
        }
        Compared::NoDifference | Compared::Better | Compared::CannotTell => {
            (Ruling::Passed, diff.reason, Vec::new())
        }
    };
    Outcome {
        name: "baseline",
        demand: "nothing is new or has grown since the stored report".to_owned(),
        ruling,
        said,
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{bound, insufficient, leak, no_leak};
    use crate::report::Lack;

    /// At most 1 B per second could have been missed.
    fn bounded(mut report: Report) -> Report {
        report.bound = Some(bound(1.0));
        report
    }

    fn judged(baseline: &Report, report: Report) -> Outcome {
        against(baseline, &report.clone(), &[report])
    }

    /// Nothing was found.
    fn fixed() -> Report {
        let mut report = bounded(no_leak());
        report.findings.clear();
        report
    }

    #[test]
    fn what_is_new_fails_and_is_named() {
        let outcome = judged(&fixed(), bounded(leak()));
        assert_eq!(
            outcome.ruling,
            Ruling::Failed { confirmed: true },
            "{}",
            outcome.said
        );
        assert_eq!(outcome.findings, leak().findings[..1], "{}", outcome.said);
    }

    #[test]
    fn what_was_there_before_or_is_gone_passes() {
        let (leak, fixed) = (bounded(leak()), fixed());
        assert_eq!(judged(&leak, leak.clone()).ruling, Ruling::Passed);
        assert_eq!(judged(&leak, fixed.clone()).ruling, Ruling::Passed);
        assert_eq!(judged(&fixed, fixed.clone()).ruling, Ruling::Passed);
    }

    #[test]
    fn without_evidence_nothing_is_passed() {
        let outcome = judged(&fixed(), insufficient());
        assert!(
            matches!(outcome.ruling, Ruling::Undecided { .. }),
            "{outcome:?}"
        );
    }

    #[test]
    fn an_old_leak_does_not_make_up_for_a_heap_that_is_not_read() {
        let mut now = bounded(leak());
        now.lacks = vec![Lack::UnseenHeap];
        let outcome = judged(&bounded(leak()), now);
        assert!(
            matches!(outcome.ruling, Ruling::Undecided { .. }),
            "{outcome:?}"
        );
    }
}
