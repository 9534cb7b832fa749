//! One of the compared runs: its traffic, and what it could have missed.

use crate::report::{Cause, FindingState, Report, UNDECIDED, Verdict};

use super::result::RunSummary;

/// Maximum number of findings of a report that are compared. A report of one process has at most 20.
pub(super) const MOST_FINDINGS: usize = 200;
/// Minimum part of a bound that is left if the growth of findings is subtracted, because that growth is an estimate.
const LEAST_MISSED: f64 = 0.1;

/// One of the runs.
pub(super) struct Run<'a> {
    pub(super) report: &'a Report,
    /// `first` or `second`.
    pub(super) which: &'static str,
}

impl<'a> Run<'a> {
    pub(super) fn new(report: &'a Report, which: &'static str) -> Self {
        Self { report, which }
    }

    pub(super) fn summary(&self) -> RunSummary {
        let report = self.report;
        RunSummary {
            exe: report.target.exe.clone(),
            runtime: report.target.runtime.clone(),
            mode: report.target.mode.clone(),
            version: report.version.clone(),
            seconds: report.window.seconds,
            requests: report.window.requests,
            new_tokens: report.window.new_tokens,
            verdict: report.verdict,
            missed_bytes_per_second: self.missed().filter(|_| self.is_whole()),
        }
    }

    pub(super) fn has_too_little_evidence(&self) -> bool {
        self.report.verdict == Verdict::InsufficientEvidence && !self.is_whole()
    }

    /// Whether something follows from what it did not find. A bound that is only too large for the verdict `no_leak` can
    /// still be compared with.
    pub(super) fn is_whole(&self) -> bool {
        self.report.verdict == Verdict::NoLeak
            || self.report.bound.is_some_and(|bound| bound.is_whole)
    }

    /// Bytes per second that could have been missed. The bound covers everything that grows, so what its findings explain
    /// is subtracted.
    pub(super) fn missed(&self) -> Option<f64> {
        // Of several processes the report has the bound of one.
        let serving = self.report.processes.iter().filter(|one| one.requests > 0);
        let bound = self.report.bound?.bytes_per_second * serving.count().max(1) as f64;
        let findings = self.report.findings.iter();
        let growing = findings.filter(|finding| finding.state > FindingState::None);
        let explained: f64 = growing
            .map(|finding| finding.growth_bytes_per_second.max(0.0))
            .sum();
        // A bound that does not cover its own findings covers nothing else.
        let is_sound = bound.is_finite() && explained.is_finite() && explained <= bound;
        is_sound.then(|| (bound - explained).max(LEAST_MISSED * bound))
    }

    /// Requests of a route, and those with a new and with a repeated token.
    pub(super) fn traffic(&self, route: &str) -> [f64; 3] {
        let window = &self.report.window;
        if route == UNDECIDED || route == "(all routes)" {
            return [window.requests, window.new_tokens, window.repeat_tokens].map(|n| n as f64);
        }
        let known = self.report.routes.iter().find(|one| one.route == route);
        known.map_or([0.0; 3], |one| {
            [one.requests, one.new_tokens, one.repeat_tokens].map(|n| n as f64)
        })
    }

    /// The part of a route's requests that have a new token.
    pub(super) fn new_share(&self, route: &str) -> f64 {
        let [all, new, _] = self.traffic(route);
        new / all.max(1.0)
    }

    /// Events that may keep something: requests with a new token if the cause is token-keyed, else requests.
    pub(super) fn events(&self, route: &str, cause: Cause) -> f64 {
        let [all, new, _] = self.traffic(route);
        if cause == Cause::TokenKeyed { new } else { all }
    }

    /// The same per second.
    pub(super) fn events_per_second(&self, route: &str, cause: Cause) -> f64 {
        self.events(route, cause) / self.report.window.seconds.max(1.0)
    }
}
