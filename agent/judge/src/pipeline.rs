//! The pipeline of one target: observations in, a report out.

mod live;
mod windows;

use std::collections::VecDeque;

use crate::attribution::Attribution;
use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::events::{LiveGroup, Nanos, Observation, Opinion, Request, TargetInfo, TokenClass};
use crate::findings::Inputs;
use crate::findings::Judge;
use crate::findings::losses::health;
use crate::findings::observed::Observed;
use crate::growth::Growth;
use crate::growth::signals::Signals;
use crate::report::{
    Basis, Cause, Finding, FindingState, Lack, Memory, Report, RouteSummary, SCHEMA, TargetSummary,
    Verdict, Window,
};

pub use crate::findings::options::JudgeOptions;
pub use crate::findings::plateaus::Plateaus;
pub use crate::findings::remembered::Remembered;
use windows::{Judgement, Windows};

/// Seconds after a pause during which token classes do not count: tokens that were used during the pause
/// would look new.
const LEARNING_SECONDS: f64 = 8.0;
/// Seconds over which rates are averaged.
const RATE_SECONDS: u64 = 10;

/// The inputs of findings. A macro, because a method would borrow the judge, which changes while it reads them.
macro_rules! inputs {
    ($pipeline:expr) => {
        Inputs {
            unseen_heap: unseen_heap(&$pipeline.target),
            garbage: $pipeline.target.heap_unseen && $pipeline.target.collected,
            requests_unread: $pipeline.target.requests_unread,
            heap_read: $pipeline.target.heap_read,
            blocks_partial: $pipeline.target.blocks_partial,
            earlier: $pipeline.earlier,
            growth: &$pipeline.growth,
            attribution: &$pipeline.attribution,
            signals: &$pipeline.signals,
            start: $pipeline.start.unwrap_or_default(),
            now: $pipeline.now,
        }
    };
}

/// Attribution, growth and findings of one target.
pub struct Pipeline {
    attribution: Attribution,
    growth: Growth,
    signals: Signals,
    judge: Judge,
    windows: Windows,
    /// Observed allocations of windows that have ended.
    earlier: Option<Observed>,
    target: TargetInfo,
    start: Option<Nanos>,
    now: Nanos,
    window: Window,
    /// Requests and new tokens per second of time: `(second, requests, new tokens)`.
    recent: VecDeque<(u64, u64, u64)>,
}

impl Pipeline {
    /// Nothing seen yet.
    pub fn new(options: JudgeOptions) -> Self {
        Self {
            attribution: Attribution::new(options.maturity_seconds),
            growth: Growth::new(Nanos(0)),
            signals: Signals::default(),
            judge: Judge::new(options),
            windows: Windows::default(),
            earlier: None,
            target: TargetInfo::default(),
            start: None,
            now: Nanos(0),
            window: Window::default(),
            recent: VecDeque::new(),
        }
    }

    /// Changes the settings. The maturity age does not change.
    pub fn set_options(&mut self, options: JudgeOptions) {
        self.judge.options = options;
    }

    /// Adds plateaus that were learned from the same service before.
    pub fn learn(&mut self, plateaus: &Plateaus) {
        self.judge.plateaus.learn(plateaus);
    }

    /// The plateaus of all functions.
    pub fn plateaus(&self) -> &Plateaus {
        &self.judge.plateaus
    }

    /// Takes confirmed findings of an earlier observation of the same process.
    pub fn remember(&mut self, earlier: Vec<Remembered>) {
        self.judge.remember(earlier);
    }

    /// The confirmed findings, for a later observation of the same process.
    pub fn to_remember(&self) -> Vec<Remembered> {
        self.judge.to_remember(&self.judgement().findings)
    }

    /// Takes one observation.
    pub fn observe(&mut self, observation: &Observation) {
        if let Some(at) = observation.at() {
            if self.start.is_none() {
                self.start = Some(at);
                self.growth = Growth::new(at);
            }
            self.now = self.now.max(at);
        }
        match observation {
            Observation::Target(_, info) => self.target = info.clone(),
            Observation::Request(request) => self.request(request),
            Observation::Site(site) => self.attribution.sites.observe(site),
            Observation::Snapshot(snapshot) => {
                self.growth.snapshot(snapshot, &mut self.attribution);
                self.judge
                    .snapshot(&self.growth, &self.attribution, &self.signals);
                self.window.distinct_tokens = self.attribution.tokens.distinct();
            }
            Observation::Memory(sample) => {
                let totals = self.growth.totals;
                self.judge
                    .memory
                    .observe(sample, totals.mature_bytes, totals.live_bytes);
                self.judge.release(sample);
                self.signals.memory(sample);
                if self.windows.is_closed() || self.growth.snapshots() == 0 {
                    // No snapshot will refer to these requests.
                    self.attribution.requests.matured(sample.at);
                    self.attribution.requests.prune(&[], sample.at);
                }
            }
            Observation::Faults(faults) => self.signals.faults(faults),
            Observation::Heap(mark) => self.signals.heap(mark),
            Observation::Profile(profile) => self.signals.profile(profile, &self.attribution),
            Observation::Census(census) => self.signals.census(census),
            Observation::Lengths(lengths) => self.signals.lengths(lengths),
            Observation::Residency(residency) => {
                self.judge.residents.observe(residency);
                self.judge.meet_kept_tokens(residency, inputs!(self));
            }
            Observation::Losses(losses) => {
                self.attribution.losses(losses);
                self.judge.losses = *losses;
            }
            Observation::Forgotten(at) => {
                self.growth.forget(*at);
                self.earlier = None;
                self.signals.forget();
                self.judge.forget();
                self.attribution.forget();
            }
            Observation::Window(at, false) => {
                let watched = self.growth.snapshots() > 0;
                self.windows.end(self.start.filter(|_| watched));
                self.judge.pause(Some(*at));
            }
            Observation::Window(at, true) => {
                let last = self.judgement();
                self.judge.carry(inputs!(self));
                self.judge.pause(None);
                self.windows.begin(*at, last, self.window.requests);
                self.earlier = match (self.earlier, self.judge.of_window(&self.growth)) {
                    (Some(earlier), Some(now)) => Some(earlier.and(now)),
                    (earlier, now) => earlier.or(now),
                };
                self.growth.forget(*at);
                self.judge.forget_blocks();
                self.attribution.begin(*at);
            }
            Observation::Requests(at, false) => {
                self.windows.requests(false);
                self.signals.blind(*at);
            }
            Observation::Requests(at, true) => {
                self.windows.requests(true);
                self.signals.seen(at.plus(LEARNING_SECONDS));
            }
            Observation::Ended(at) => {
                let after = self.start.map_or(0.0, |start| at.since(start));
                let said = format!("the process ended after {after:.0} s of observation");
                if !self.target.limitations.contains(&said) {
                    self.target.limitations.push(said);
                }
            }
        }
        if self.signals.settle(self.now, &self.attribution) {
            self.judge.reading(inputs!(self));
            self.window.distinct_tokens = self.attribution.tokens.distinct();
        }
    }

    /// What the judge needs from the current window, if allocations are traced in windows.
    pub fn opinion(&self) -> Opinion {
        let needed = 2.0 * self.judge.options.maturity_seconds;
        let judgement = self.judgement();
        let explained = |finding: &Finding| {
            finding.state > FindingState::None && finding.basis == Basis::Container
        };
        if self.signals.counts_containers() {
            // The objects of the runtime may tell what grows.
            if judgement.findings.iter().any(explained) {
                return Opinion::Settled;
            }
            if self.windows.is_closed() {
                return Opinion::Open;
            }
        }
        let of_blocks = judgement
            .findings
            .iter()
            .filter(|finding| finding.basis == Basis::Blocks);
        let worst = of_blocks.max_by_key(|finding| finding.state);
        match worst.map(|finding| (finding.state, finding.cause)) {
            Some((FindingState::Confirmed, _)) => Opinion::Settled,
            // The window may still show the cause.
            Some((FindingState::Suspect, Cause::Indeterminate)) => Opinion::Open,
            Some((FindingState::Suspect, _)) => Opinion::Suspicion,
            // Tracing that was never paused is one window.
            _ if self
                .windows
                .seconds(self.now)
                .unwrap_or_else(|| self.window().seconds)
                >= needed
                && judgement.verdict == Verdict::NoLeak =>
            {
                Opinion::Settled
            }
            _ => Opinion::Open,
        }
    }

    /// The current judgement.
    fn judgement(&self) -> Judgement {
        let inputs = self.inputs();
        let findings = self.judge.findings(inputs);
        let window = self.window();
        let (verdict, reason) = self.judge.verdict(&findings, &window, inputs);
        let said = Judgement {
            verdict,
            reason,
            findings,
        };
        let needed = 2.0 * self.judge.options.maturity_seconds;
        self.windows.standing(self.now, needed, said, &window)
    }

    fn lacks(&self, window: &Window) -> Vec<Lack> {
        let needed = 2.0 * self.judge.options.maturity_seconds;
        let lacks = self.judge.lacks(window, self.inputs());
        self.windows.lacks(self.now, needed, lacks, window)
    }

    fn inputs(&self) -> Inputs<'_> {
        inputs!(self)
    }

    fn window(&self) -> Window {
        Window {
            seconds: self.now.since(self.start.unwrap_or_default()),
            requests_seen: self.windows.sees_requests(),
            ..self.window
        }
    }

    /// The current report.
    pub fn report(&self) -> Report {
        let start = self.start.unwrap_or_default();
        let window = self.window();
        let Judgement {
            verdict,
            reason,
            findings,
        } = self.judgement();
        let routes = self.routes(&findings);
        let lacks = self.lacks(&window);
        Report {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: self.target(),
            window,
            memory: self.memory(),
            ledger: self.judge.ledger(self.inputs(), &findings),
            verdict,
            reason,
            findings,
            routes,
            residency: self.judge.residents.summary(self.now),
            bound: self.judge.bound(self.inputs()).map(|b| b.without(&lacks)),
            lacks,
            health: health(&self.judge.losses, self.cpu_seconds()),
            processes: Vec::new(),
            live: self.live(start),
        }
    }

    /// Route and token class of the requests that allocated a group of blocks. `None`: no request, or none that is known.
    pub fn origin(&self, group: &LiveGroup) -> Option<(String, TokenClass)> {
        self.attribution.origin(group, self.now)
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.attribution.state_bytes()
            + self.growth.state_bytes()
            + self.signals.state_bytes()
            + self.judge.state_bytes()
    }

    fn request(&mut self, request: &Request) {
        let Some((route, class)) = self.attribution.request(request) else {
            return;
        };
        self.signals.request(request, route, class);
        self.window.requests += 1;
        let class = class.token_class();
        match class {
            TokenClass::New => self.window.new_tokens += 1,
            TokenClass::Repeat => self.window.repeat_tokens += 1,
            TokenClass::None => self.window.anonymous += 1,
        }
        let second = request.end.0 / 1_000_000_000;
        let new = u64::from(class == TokenClass::New);
        match self.recent.iter_mut().rev().find(|entry| entry.0 == second) {
            Some(entry) => {
                entry.1 += 1;
                entry.2 += new;
            }
            None => self.recent.push_back((second, 1, new)),
        }
        while self.recent.len() > 4 * RATE_SECONDS as usize {
            self.recent.pop_front();
        }
    }

    fn target(&self) -> TargetSummary {
        let info = &self.target;
        TargetSummary {
            pid: info.pid,
            exe: info.exe.clone(),
            runtime: info.runtime.clone(),
            allocators: info.allocators.clone(),
            mode: info.mode.clone(),
            workload: info.workload.clone(),
            limitations: info
                .limitations
                .iter()
                .cloned()
                .chain(
                    self.windows
                        .limitations(self.signals.counts_containers())
                        .map(str::to_owned),
                )
                .collect(),
        }
    }

    fn memory(&self) -> Memory {
        let totals = self.growth.totals;
        let memory = &self.judge.memory;
        Memory {
            rss_start_bytes: memory.first().rss,
            rss_end_bytes: memory.last().rss,
            live_growth_bytes: totals.mature_bytes as i64,
            live_bytes: totals.live_bytes as u64,
            live_blocks: totals.live_blocks as u64,
            limit_bytes: memory.limit(self.judge.options.memory_limit),
            limit_scope: memory.scope(self.judge.options.memory_limit),
            used_bytes: memory.last().used,
        }
    }

    fn cpu_seconds(&self) -> f64 {
        let (first, last) = (self.judge.memory.first(), self.judge.memory.last());
        last.cpu_ns.saturating_sub(first.cpu_ns) as f64 / 1e9
    }

    fn routes(&self, findings: &[Finding]) -> Vec<RouteSummary> {
        // What is not known by blocks is known by its finding only.
        let held = |name: &str| -> u64 {
            let growing = findings.iter().filter(|one| one.state > FindingState::None);
            let other = growing.filter(|one| one.basis != Basis::Blocks && one.route == name);
            other.map(|one| one.retained_bytes).sum()
        };
        let retained = |id: RouteId| -> f64 {
            let series = self.growth.series().filter(|(key, _)| key.route == id);
            series.map(|(_, series)| series.live_bytes()).sum()
        };
        let least = self.judge.least_traffic(self.inputs());
        let least = |id: RouteId| least.get(&id).copied().unwrap_or_default();
        let mut routes: Vec<RouteSummary> = self
            .attribution
            .routes
            .iter()
            .map(|(id, route)| RouteSummary {
                route: route.name.clone(),
                requests: route.requests,
                new_tokens: route.classes[Class::New.index()]
                    + route.classes[Class::NewHere.index()],
                repeat_tokens: route.classes[Class::Repeat.index()],
                retained_bytes: (retained(id) as u64).max(held(&route.name)),
                p99_seconds: route.p99_seconds(),
                least_requests_per_second: least(id).requests,
                least_new_tokens_per_second: least(id).new_tokens,
            })
            .collect();
        routes.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.route.cmp(&b.route)));
        routes
    }
}

/// The runtime of a target whose objects are in a heap that is not read.
fn unseen_heap(target: &TargetInfo) -> Option<&str> {
    target.heap_unseen.then_some(target.runtime.as_str())
}
