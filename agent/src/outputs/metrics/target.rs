//! The metrics' state of a target: its newest report with a bounded number of labels.

use std::collections::{BTreeMap, BTreeSet};

use super::samples::{Labels, OTHER, label};
use crate::outputs::format::{base_name, cause, site_location};
use heaptide_judge::report::{Finding, FindingState, Report, RouteSummary, TimeToOom};

/// Maximum number of routes with their own label.
pub(super) const ROUTES: usize = 50;
/// Maximum number of sites with their own label.
pub(super) const SITES: usize = 20;

#[derive(Debug)]
pub(super) struct Target {
    pub(super) report: Report,
    /// Unix time of the report.
    pub(super) updated: f64,
    pub(super) routes: BTreeMap<String, RouteSummary>,
    pub(super) findings: BTreeMap<(String, &'static str), Folded>,
    /// Function, location, retained bytes.
    pub(super) sites: Vec<(String, String, u64)>,
    /// Path, kind and entries of the containers of findings.
    pub(super) containers: Vec<(String, String, u64)>,
    service: String,
    /// Routes with their own label. They keep it, because a counter must not move between labels.
    named: BTreeSet<String>,
}

/// The findings of one route label and cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    pub(super) state: FindingState,
    pub(super) retained_bytes: u64,
    pub(super) per_new_token: f64,
    pub(super) per_repeat_token: f64,
    pub(super) per_request: f64,
    pub(super) growth: f64,
    pub(super) confidence: f64,
    pub(super) time_to_oom: Option<TimeToOom>,
}

impl Target {
    pub(super) fn new(service: Option<&str>, report: &Report, now: f64) -> Self {
        let mut target = Self {
            report: report.clone(),
            updated: now,
            routes: BTreeMap::new(),
            findings: BTreeMap::new(),
            sites: Vec::new(),
            containers: Vec::new(),
            service: String::new(),
            named: BTreeSet::new(),
        };
        target.update(service, report, now);
        target
    }

    /// Its configured name, or that of its executable.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn update(&mut self, service: Option<&str>, report: &Report, now: f64) {
        // Another process has the same pid: its counters restart.
        if self.report.target.exe != report.target.exe
            || self.report.window.seconds > report.window.seconds
        {
            self.named.clear();
        }
        self.report = report.clone();
        self.updated = now;
        service
            .unwrap_or(base_name(&report.target.exe))
            .clone_into(&mut self.service);

        self.routes.clear();
        for route in &report.routes {
            let name = self.route(&route.route);
            let folded = self.routes.entry(name).or_default();
            folded.requests += route.requests;
            folded.new_tokens += route.new_tokens;
            folded.repeat_tokens += route.repeat_tokens;
            folded.retained_bytes += route.retained_bytes;
            folded.p99_seconds = folded.p99_seconds.max(route.p99_seconds);
        }
        self.findings.clear();
        for finding in &report.findings {
            let key = (self.route(&finding.route), cause(finding.cause));
            let new = Folded::from(finding);
            self.findings
                .entry(key)
                .and_modify(|old| *old = old.with(new))
                .or_insert(new);
        }
        self.sites = report
            .findings
            .iter()
            .filter(|finding| finding.state > FindingState::None)
            .flat_map(sites)
            .collect();
        self.sites.sort_by_key(|site| std::cmp::Reverse(site.2));
        self.sites.truncate(SITES);
        self.containers = report
            .findings
            .iter()
            .filter(|finding| finding.state > FindingState::None)
            .filter_map(|finding| finding.container.as_ref())
            .map(|one| (one.path.clone(), one.kind.clone(), one.entries_end))
            .take(SITES)
            .collect();
    }

    /// The label of a route: its own for the first routes, `other` for the rest.
    fn route(&mut self, route: &str) -> String {
        let route = label(route);
        if self.named.contains(&route) {
            return route;
        }
        if self.named.len() >= ROUTES {
            return OTHER.to_owned();
        }
        self.named.insert(route.clone());
        route
    }

    /// The labels of every series of this target.
    pub(super) fn labels(&self) -> Labels {
        vec![
            ("pid", self.report.target.pid.to_string()),
            ("exe", label(base_name(&self.report.target.exe))),
            ("service", label(&self.service)),
        ]
    }
}

impl From<&Finding> for Folded {
    fn from(finding: &Finding) -> Self {
        Self {
            state: finding.state,
            retained_bytes: finding.retained_bytes,
            per_new_token: finding.retained_bytes_per_new_token,
            per_repeat_token: finding.retained_bytes_per_repeat_token,
            per_request: finding.retained_bytes_per_request,
            growth: finding.growth_bytes_per_second,
            confidence: finding.confidence,
            time_to_oom: finding.time_to_oom_seconds,
        }
    }
}

impl Folded {
    /// Merges two findings: sums of bytes, the worse value of the rest.
    fn with(self, other: Self) -> Self {
        let time_to_oom = match (self.time_to_oom, other.time_to_oom) {
            (Some(one), Some(two)) => Some(TimeToOom {
                median: one.median.min(two.median),
                early: one.early.min(two.early),
                late: match (one.late, two.late) {
                    (Some(one), Some(two)) => Some(one.min(two)),
                    (one, two) => one.or(two),
                },
            }),
            (one, two) => one.or(two),
        };
        Self {
            state: self.state.max(other.state),
            retained_bytes: self.retained_bytes + other.retained_bytes,
            per_new_token: self.per_new_token.max(other.per_new_token),
            per_repeat_token: self.per_repeat_token.max(other.per_repeat_token),
            per_request: self.per_request.max(other.per_request),
            growth: self.growth + other.growth,
            confidence: self.confidence.min(other.confidence),
            time_to_oom,
        }
    }
}

/// The locations of a finding: function, place in a file, and bytes. A container stands for code that is not known.
fn sites(finding: &Finding) -> Vec<(String, String, u64)> {
    let all = std::iter::once(&finding.site).chain(&finding.also);
    let located = all.map(|site| {
        let container = finding.container.as_ref().filter(|_| site.stack.is_empty());
        let container = container.filter(|_| site.file.is_none());
        let function = container.map_or(&site.function, |container| &container.path);
        (function.clone(), site_location(site), site.retained_bytes)
    });
    located.collect()
}
