//! A trace and its verdicts.

use heaptide_judge::events::Observation;
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::{Bound, Cause, Finding, Report, Verdict};

use super::world::{Trace, Truth, generate};

/// A judged trace.
pub(crate) struct Run {
    pub(crate) report: Report,
    pub(crate) truth: Truth,
    /// `(seconds, verdict)` after each snapshot.
    pub(crate) verdicts: Vec<(f64, Verdict)>,
    /// The bound at each of these times at which the verdict is `no_leak`.
    pub(crate) bounds: Vec<Bound>,
}

pub(crate) fn run(trace: Trace) -> Run {
    run_with(trace, lab())
}

/// The judge's settings with the horizon of the lab: simulated services have little memory.
pub(crate) fn lab() -> JudgeOptions {
    JudgeOptions {
        horizon_seconds: 3_600.0,
        ..JudgeOptions::default()
    }
}

pub(crate) fn run_with(trace: Trace, options: JudgeOptions) -> Run {
    let (observations, truth) = generate(trace);
    let mut pipeline = Pipeline::new(options);
    let mut verdicts = Vec::new();
    let mut bounds = Vec::new();
    for observation in &observations {
        pipeline.observe(observation);
        if matches!(observation, Observation::Snapshot(_)) {
            let report = pipeline.report();
            verdicts.push((report.window.seconds, report.verdict));
            if report.verdict == Verdict::NoLeak {
                bounds.extend(report.bound);
            }
        }
    }
    Run {
        report: pipeline.report(),
        truth,
        verdicts,
        bounds,
    }
}

impl Run {
    pub(crate) fn top(&self) -> &Finding {
        self.report
            .findings
            .first()
            .unwrap_or_else(|| panic!("no finding: {:#?}", self.report))
    }

    pub(crate) fn first(&self, verdict: Verdict) -> Option<f64> {
        self.verdicts
            .iter()
            .find(|(_, said)| *said == verdict)
            .map(|(seconds, _)| *seconds)
    }

    pub(crate) fn expect(
        &self,
        verdict: Verdict,
        cause: Cause,
        route: &str,
        function: &str,
    ) -> &Finding {
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
    pub(crate) fn expect_quiet(&self, from: f64) {
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

/// Whether `said` is within 10 % of `truth`.
pub(crate) fn near(said: f64, truth: f64) -> bool {
    (said / truth - 1.0).abs() <= 0.1
}
