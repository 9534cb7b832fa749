//! The metrics' state of a target: the newest reports of its processes, with a bounded number of labels.

use std::collections::{BTreeMap, BTreeSet};

use super::counted::Counted;
use super::facts::{Counts, Declared};
use super::samples::{OTHER, label};
use crate::outputs::format::{cause, site_location};
use heaptide_judge::findings::service;
use heaptide_judge::report::{
    Finding, FindingState, Health, Memory, Report, ResidentAge, TimeToOom,
};

/// Maximum number of routes with their own label.
pub(super) const ROUTES: usize = 50;
/// Maximum number of sites of findings with their own label.
const SITES: usize = 20;
/// Maximum number of sites of live memory with their own label.
pub(super) const LIVE_SITES: usize = 10;

#[derive(Debug)]
pub(super) struct Target {
    /// Its settings, if it is in the configuration.
    pub(super) declared: Option<Declared>,
    /// Its processes, if the daemon looks for them.
    pub(super) counts: Option<Counts>,
    /// One report for all processes. `None`: there is no process.
    pub(super) sum: Option<Report>,
    /// Unix time of the newest reports.
    pub(super) updated: f64,
    pub(super) routes: BTreeMap<String, Route>,
    pub(super) findings: BTreeMap<(String, &'static str), Folded>,
    pub(super) sites: Vec<Site>,
    /// Path, kind and entries of the containers of findings.
    pub(super) containers: BTreeMap<(String, String), u64>,
    pub(super) counted: Counted,
    name: String,
    processes: BTreeMap<u32, Report>,
    /// Counters of processes that are gone.
    ended: Counted,
    /// Routes with their own label. They keep it, because a counter must not move between labels.
    named: BTreeSet<String>,
}

/// Figures of one route label.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Route {
    pub(super) retained_bytes: u64,
    pub(super) p99_seconds: f64,
}

/// Memory that a code location of a finding keeps.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) route: String,
    pub(super) cause: &'static str,
    pub(super) function: String,
    pub(super) location: String,
    pub(super) bytes: u64,
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
    pub(super) time_to_oom: Option<TimeToOom>,
}

impl Target {
    pub(super) fn new(name: &str) -> Self {
        Self {
            declared: None,
            counts: None,
            sum: None,
            updated: 0.0,
            routes: BTreeMap::new(),
            findings: BTreeMap::new(),
            sites: Vec::new(),
            containers: BTreeMap::new(),
            counted: Counted::default(),
            name: label(name),
            processes: BTreeMap::new(),
            ended: Counted::default(),
            named: BTreeSet::new(),
        }
    }

    /// Its name as a label.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The newest reports of its processes.
    pub(super) fn processes(&self) -> impl ExactSizeIterator<Item = &Report> {
        self.processes.values()
    }

    /// Number of observed processes.
    pub(super) fn observed(&self) -> u64 {
        let reports = self.processes.len() as u64;
        self.counts
            .as_ref()
            .map_or(reports, |counts| counts.observed)
    }

    /// Takes the newest reports of all its processes. Those that have none are gone.
    pub(super) fn update(&mut self, reports: Vec<Report>, now: f64) {
        let reports: BTreeMap<u32, Report> = reports
            .into_iter()
            .map(|report| (report.target.pid, report))
            .collect();
        if self.processes.is_empty() && self.named.len() >= ROUTES {
            // Another version of the service may have other routes. All counters restart together.
            self.named.clear();
            self.ended = Counted::default();
        }
        let before = std::mem::take(&mut self.processes);
        for (pid, old) in before {
            if reports.get(&pid).is_none_or(|new| is_another(&old, new)) {
                let mut ended = std::mem::take(&mut self.ended);
                ended.add(&old, |route| self.route(route));
                self.ended = ended;
            }
        }
        self.processes = reports;
        if !self.processes.is_empty() {
            self.updated = now;
        }
        self.sum = service::sum(self.processes.values().cloned().collect());
        self.fold();
    }

    /// Removes a process.
    pub(super) fn remove(&mut self, pid: u32) {
        if self.processes.contains_key(&pid) {
            let rest = self.processes.values();
            let rest = rest.filter(|report| report.target.pid != pid);
            self.update(rest.cloned().collect(), self.updated);
        }
    }

    /// Makes the figures by label from the reports.
    fn fold(&mut self) {
        let mut counted = self.ended.clone();
        for report in std::mem::take(&mut self.processes).into_values() {
            counted.add(&report, |route| self.route(route));
            self.processes.insert(report.target.pid, report);
        }
        self.counted = counted;
        self.routes.clear();
        self.findings.clear();
        self.sites.clear();
        self.containers.clear();
        let Some(sum) = self.sum.take() else {
            return;
        };
        for route in &sum.routes {
            let name = self.route(&route.route);
            let folded = self.routes.entry(name).or_default();
            folded.retained_bytes += route.retained_bytes;
            folded.p99_seconds = folded.p99_seconds.max(route.p99_seconds);
        }
        for finding in &sum.findings {
            let key = (self.route(&finding.route), cause(finding.cause));
            if finding.state > FindingState::None {
                self.sites.extend(sites(finding, &key));
                if let Some(one) = &finding.container {
                    let path = (one.path.clone(), one.kind.clone());
                    *self.containers.entry(path).or_default() += one.entries_end;
                }
            }
            let new = Folded::from(finding);
            self.findings
                .entry(key)
                .and_modify(|old| *old = old.with(new))
                .or_insert(new);
        }
        self.sites.sort_by_key(|site| std::cmp::Reverse(site.bytes));
        self.sites.truncate(SITES);
        while self.containers.len() > SITES {
            self.containers.pop_last();
        }
        self.sum = Some(sum);
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

    /// The sum of a figure of all processes. `None`: there is no process.
    pub(super) fn total(&self, of: impl Fn(&Report) -> f64) -> Option<f64> {
        self.sum.as_ref()?;
        Some(self.processes().map(of).sum())
    }

    /// The largest figure of any process.
    pub(super) fn largest(&self, of: impl Fn(&Report) -> f64) -> Option<f64> {
        self.processes().map(of).reduce(f64::max)
    }

    /// The memory of the process that has used the largest part of its limit.
    pub(super) fn fullest(&self) -> Option<Memory> {
        let part = |memory: &Memory| {
            let limit = memory.limit_bytes.filter(|limit| *limit > 0);
            limit.map_or(0.0, |limit| memory.used_bytes as f64 / limit as f64)
        };
        let each = self.processes().map(|report| report.memory);
        each.max_by(|a, b| {
            let order = part(a).total_cmp(&part(b));
            order.then(a.used_bytes.cmp(&b.used_bytes))
        })
    }

    /// The largest growth that could have been missed in all processes together, if the target has a bound.
    pub(super) fn bound(&self) -> Option<f64> {
        self.sum.as_ref()?.bound?;
        let each = self.processes().filter_map(|report| report.bound);
        Some(each.map(|bound| bound.bytes_per_second).sum())
    }

    /// Tokens that were searched for and found, by age.
    pub(super) fn ages(&self) -> BTreeMap<u64, ResidentAge> {
        let mut all: BTreeMap<u64, ResidentAge> = BTreeMap::new();
        let each = self.processes().filter_map(|one| one.residency.as_ref());
        for age in each.flat_map(|one| &one.ages) {
            let sum = all.entry(age.at_least_seconds).or_default();
            sum.tokens += age.tokens;
            sum.resident += age.resident;
        }
        all
    }

    /// Live memory by function and location, the biggest ones.
    pub(super) fn live_sites(&self) -> Vec<((&str, &str), u64)> {
        let mut all: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for site in self.processes().flat_map(|one| &one.live.top_sites) {
            *all.entry((&site.function, &site.location)).or_default() += site.bytes;
        }
        let mut sites: Vec<_> = all.into_iter().collect();
        sites.sort_by_key(|site| std::cmp::Reverse(site.1));
        sites.truncate(LIVE_SITES);
        sites
    }

    /// Counters of losses and cost.
    pub(super) fn health(&self) -> &Health {
        &self.counted.health
    }
}

/// Whether a pid is that of another process, or the process was attached again.
fn is_another(old: &Report, new: &Report) -> bool {
    old.target.exe != new.target.exe || old.window.seconds > new.window.seconds
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
                late: None,
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
            time_to_oom,
        }
    }
}

/// The locations of a finding. A container stands for code that is not known.
fn sites(finding: &Finding, key: &(String, &'static str)) -> Vec<Site> {
    let all = std::iter::once(&finding.site).chain(&finding.also);
    let located = all.map(|site| {
        let container = finding.container.as_ref().filter(|_| site.stack.is_empty());
        let container = container.filter(|_| site.file.is_none());
        let function = container.map_or(&site.function, |container| &container.path);
        Site {
            route: key.0.clone(),
            cause: key.1,
            function: function.clone(),
            location: site_location(site),
            bytes: site.retained_bytes,
        }
    });
    located.collect()
}
