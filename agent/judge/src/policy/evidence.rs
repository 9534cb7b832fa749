//! The evidence about all processes of a service together.

use std::collections::BTreeMap;

use crate::findings::options::LEAST_REQUESTS;
use crate::findings::service;
use crate::report::{Finding, FindingState, Lack, Report, Verdict};

/// Part of the requests of the busiest process below which a process need not have enough evidence of its own: the master
/// of workers, and a worker that was started just before the end.
const MINOR: f64 = 0.1;

/// Traffic of a route in all processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) requests: u64,
    pub(super) new_tokens: u64,
    /// Per second, see [`crate::report::RouteSummary`].
    pub(super) least_requests: f64,
    pub(super) least_new_tokens: f64,
}

/// The reports of all processes, summed.
pub(super) struct Evidence<'a> {
    pub(super) reports: &'a [Report],
    /// Those whose evidence counts.
    major: Vec<&'a Report>,
    /// What is missing in any of those.
    pub(super) lacks: Vec<Lack>,
    /// Findings of all, equal ones summed, worst first.
    pub(super) growing: Vec<Finding>,
    /// Verdict on all, and its reason. `None`: there is no report.
    pub(super) verdict: Option<Verdict>,
    pub(super) reason: String,
    /// Upper limit of the growth of all, bytes per second.
    pub(super) bound: Option<f64>,
    /// Seconds that it rests on.
    seconds: f64,
    /// By route.
    pub(super) routes: BTreeMap<&'a str, Rate>,
}

impl<'a> Evidence<'a> {
    pub(super) fn of(reports: &'a [Report]) -> Self {
        let requests: u64 = reports.iter().map(|one| one.window.requests).sum();
        let busiest = reports.iter().map(|one| one.window.requests).max();
        let least = MINOR * busiest.unwrap_or(0) as f64;
        let is_major = |one: &&Report| one.window.requests as f64 >= least;
        let is_minor = |one: &&Report| !is_major(one);
        let major: Vec<&Report> = reports.iter().filter(is_major).collect();
        let mut lacks: Vec<Lack> = major.iter().flat_map(|one| one.lacks.clone()).collect();
        // Whatever their traffic, these say that growth could have been missed.
        let hiding = |lack: &Lack| matches!(lack, Lack::Losses | Lack::UnseenHeap);
        let minor = reports.iter().filter(is_minor);
        lacks.extend(minor.flat_map(|one| one.lacks.clone()).filter(hiding));
        lacks.retain(|lack| *lack != Lack::Requests);
        if requests < LEAST_REQUESTS {
            lacks.push(Lack::Requests);
        }
        if major.is_empty() || major.iter().any(|one| one.bound.is_none()) {
            lacks.push(Lack::Bound);
        }
        let all = service::sum(reports.to_vec());
        let verdict = all.as_ref().map(|all| all.verdict);
        if let Some(all) = &all
            && all.verdict == Verdict::InsufficientEvidence
        {
            // A process that works or grows has too little evidence, however few its requests are.
            let others = all.lacks.iter().filter(|lack| **lack != Lack::Requests);
            lacks.extend(others.copied());
        }
        lacks.sort();
        lacks.dedup();
        let (findings, reason) = all.map_or((Vec::new(), String::new()), |all| {
            (all.findings, all.reason)
        });
        let mut growing: Vec<Finding> = findings
            .into_iter()
            .filter(|one| one.state > FindingState::None)
            .collect();
        growing.sort_by_key(|one| std::cmp::Reverse((one.state, one.retained_bytes)));
        let bounds = || reports.iter().filter_map(|one| one.bound);
        let bound = bounds().map(|bound| bound.bytes_per_second).sum();
        let mut routes: BTreeMap<&str, Rate> = BTreeMap::new();
        for route in reports.iter().flat_map(|one| &one.routes) {
            let rate = routes.entry(&route.route).or_default();
            rate.requests += route.requests;
            rate.new_tokens += route.new_tokens;
            rate.least_requests += route.least_requests_per_second;
            rate.least_new_tokens += route.least_new_tokens_per_second;
        }
        Self {
            reports,
            bound: (!lacks.contains(&Lack::Bound)).then_some(bound),
            seconds: bounds().map(|bound| bound.seconds).fold(0.0, f64::max),
            major,
            lacks,
            growing,
            verdict,
            reason,
            routes,
        }
    }

    /// What is missing for any claim that something does not grow. The horizon is only needed for the verdict.
    pub(super) fn lack(&self) -> Option<Lack> {
        let mut lacks = self.lacks.iter().copied();
        lacks.find(|lack| *lack != Lack::Horizon)
    }

    /// A process without the verdict `no_leak`.
    pub(super) fn unsettled(&self) -> Option<&'a Report> {
        let mut major = self.major.iter().copied();
        let unsettled = major.find(|one| one.verdict != Verdict::NoLeak);
        // A minor one may have a heap that is not read.
        unsettled.or_else(|| {
            let lacking = self.reports.iter().find(|one| !one.lacks.is_empty());
            lacking.filter(|_| self.lack().is_some())
        })
    }

    /// Seconds of further observation after which the bound is smaller by this factor: the bytes that could have
    /// grown unseen stay the same while the time becomes longer.
    pub(super) fn until(&self, factor: f64) -> Option<f64> {
        let more = self.seconds * factor - self.seconds;
        (more.is_finite() && more > 0.0).then_some(more)
    }
}
