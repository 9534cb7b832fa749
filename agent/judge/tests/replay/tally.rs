//! Judges simulated services and counts right and wrong findings over many seeds.

use heaptide_judge::events::Observation;
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::{Cause, Finding, Verdict};

use super::judged::lab;
use super::signal_trace::SignalTrace;
use super::signal_world::generate;

/// The verdicts over time.
pub(crate) struct Said {
    /// `(seconds, verdict)` after each second.
    pub(crate) verdicts: Vec<(f64, Verdict)>,
    pub(crate) verdict: Verdict,
    pub(crate) top: Option<Finding>,
    pub(crate) reason: String,
    pub(crate) state_bytes: usize,
}

pub(crate) fn run(trace: SignalTrace) -> Said {
    run_with(trace, lab())
}

pub(crate) fn run_with(trace: SignalTrace, options: JudgeOptions) -> Said {
    judge(trace, options, true)
}

/// `watched`: the verdicts over time are wanted, which takes most of the time.
fn judge(trace: SignalTrace, options: JudgeOptions, watched: bool) -> Said {
    let mut pipeline = Pipeline::new(options);
    let mut verdicts = Vec::new();
    for observation in &generate(trace) {
        pipeline.observe(observation);
        if watched && matches!(observation, Observation::Memory(_)) {
            let report = pipeline.report();
            verdicts.push((report.window.seconds, report.verdict));
        }
    }
    let report = pipeline.report();
    Said {
        verdicts,
        verdict: report.verdict,
        reason: report.reason.clone(),
        state_bytes: pipeline.state_bytes(),
        top: report.findings.into_iter().next(),
    }
}

impl Said {
    pub(crate) fn found(&self) -> bool {
        matches!(self.verdict, Verdict::Leak | Verdict::Suspect)
    }

    /// Seconds at or after `from` at which something was suspected.
    pub(crate) fn suspected_since(&self, from: f64) -> usize {
        let found = |verdict: &Verdict| matches!(verdict, Verdict::Leak | Verdict::Suspect);
        self.verdicts
            .iter()
            .filter(|(seconds, verdict)| *seconds >= from && found(verdict))
            .count()
    }
}

/// Over `seeds` traces: how many are found, with the right cause and route, with a wrong one; and the
/// median and worst seconds to the first suspicion.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) traces: usize,
    pub(crate) found: usize,
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

pub(crate) fn tally(trace: SignalTrace, seeds: u64, cause: Cause, route: &str) -> Tally {
    let mut out = Tally::default();
    let mut seconds = Vec::new();
    for seed in 1..=seeds {
        let said = judge(SignalTrace { seed, ..trace }, lab(), false);
        out.traces += 1;
        let Some(top) = said.top.as_ref().filter(|_| said.found()) else {
            continue;
        };
        out.found += 1;
        let cause_right = top.cause == cause;
        let route_right = top.route == route;
        out.right += usize::from(cause_right && route_right);
        let cause_wrong = !cause_right && top.cause != Cause::Indeterminate;
        let route_wrong = !route_right && top.route != "(undecided)";
        out.wrong += usize::from(cause_wrong || route_wrong);
        seconds.extend(top.suspected_after_seconds);
    }
    seconds.sort_by(f64::total_cmp);
    out.median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    out.worst = seconds.last().copied().unwrap_or(f64::NAN);
    out
}
