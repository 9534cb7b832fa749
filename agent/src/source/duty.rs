//! Requests in windows: where they come so fast that seeing each would cost more than its part of the overhead
//! budget, their probes come off until that is earned back.
//!
//! What a request costs is the same for all, so it is the busy and light-handed service that this concerns:
//! one that is asked 20,000 times a second by a load test. There a window of half a minute sees more
//! than hours do elsewhere.
//!
//! A service rests as a whole, with its idle processes too: one that still needs system calls traced keeps that on for all.

use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    Sink, Source, SourceError, now, probes::by_kind, reading::own_usage, watched::Watched,
};
use heaptide_judge::events::Observation;
use heaptide_process::identity;

/// A window is at least this long: a leak is suspected within it.
const WINDOW: Duration = Duration::from_secs(30);
/// A pause is at least this long.
const PAUSE: Duration = Duration::from_secs(30);
/// The part of the budget that is for requests, with the default budget 1 %; the rest is for allocations.
const SHARE: f64 = 1.0 / 3.0;
/// So much of one core is nobody's concern, however little the target itself uses.
const FREE: f64 = 0.01;
/// CPU seconds that may be owed.
const LEAST: f64 = 0.1;

/// How the requests of one process are seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeing {
    /// Their probes are off.
    pub resting: bool,
    /// CPU seconds of the process at the last step, and when that was.
    last: (f64, Instant),
    /// CPU seconds that seeing requests has cost since the attach.
    pub spent: f64,
}

impl Seeing {
    /// Of a process that has used so many CPU seconds.
    pub(super) fn new(cpu_seconds: f64) -> Self {
        Self {
            resting: false,
            last: (cpu_seconds, Instant::now()),
            spent: 0.0,
        }
    }

    /// Takes the CPU seconds used by now, and what seeing requests costs per second; what has passed since the last time.
    fn pass(&mut self, cpu_seconds: f64, rate: f64) -> Passed {
        let now = Instant::now();
        let wall = (now - self.last.1).as_secs_f64();
        let cpu = (cpu_seconds - self.last.0).max(0.0);
        self.last = (cpu_seconds, now);
        self.spent += rate * wall;
        Passed {
            wall,
            cpu,
            spent: rate * wall,
            own: 0.0,
        }
    }
}

/// Seconds that have passed, the CPU seconds that a service has used in them, those of seeing its requests, and
/// heaptide's own for it.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    wall: f64,
    cpu: f64,
    spent: f64,
    own: f64,
}

impl Passed {
    /// Of another process, at the same time.
    fn beside(self, other: Self) -> Self {
        Self {
            wall: self.wall.max(other.wall),
            cpu: self.cpu + other.cpu,
            spent: self.spent + other.spent,
            own: self.own + other.own,
        }
    }
}

/// When the requests of a service are seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    /// Part of its CPU time that seeing them may cost; `None`: whatever it is.
    budget: Option<f64>,
    /// Their probes are to be off.
    resting: bool,
    /// Since when they are on, or off.
    since: Instant,
    /// CPU seconds per second that it used last.
    pace: f64,
    /// CPU seconds spent beyond what is allowed, and not earned back yet.
    owed: f64,
    /// CPU seconds of heaptide itself in this window.
    own: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    Rest,
    Wake,
}

impl Duty {
    /// For a service that begins to be observed; `overhead` is the budget for all.
    fn new(overhead: Option<f64>) -> Self {
        Self {
            budget: overhead.map(|part| part * SHARE),
            resting: false,
            since: Instant::now(),
            pace: 0.0,
            owed: 0.0,
            own: 0.0,
        }
    }

    fn pass(&mut self, passed: Passed) {
        self.pace = passed.cpu / passed.wall.max(0.001);
        self.own += passed.own;
        if let Some(budget) = self.budget {
            let allowed = (budget * passed.cpu).max(FREE * passed.wall);
            self.owed = (self.owed + passed.spent - allowed).max(0.0);
        }
    }

    fn step(&self, elapsed: Duration) -> Step {
        if self.resting {
            return if elapsed >= PAUSE && self.owed <= 0.0 {
                Step::Wake
            } else {
                Step::Stay
            };
        }
        if self.owed > LEAST && elapsed >= WINDOW {
            Step::Rest
        } else {
            Step::Stay
        }
    }

    /// Seconds until what is owed is earned back, if the target goes on to use so much CPU time.
    fn earned_back_in(&self) -> f64 {
        let allowed = self.budget.unwrap_or(0.0) * self.pace;
        (self.owed / allowed.max(FREE)).max(PAUSE.as_secs_f64())
    }

    /// A window ends or begins. What heaptide itself has used in a window is earned back as well; it
    /// does not end one, because it hardly depends on how many requests come.
    fn turn(&mut self, resting: bool) {
        if resting && !self.resting && self.budget.is_some() {
            self.owed += self.own;
        }
        self.own = 0.0;
        self.resting = resting;
        self.since = Instant::now();
    }
}

impl Source {
    /// CPU seconds of heaptide itself since the last time. Its start is no part of it: that is spent once.
    fn own_cost(&mut self) -> f64 {
        let now = own_usage().0;
        now - self.own_cpu.replace(now).unwrap_or(now)
    }

    /// How the requests of a process that begins to be observed are seen.
    pub(super) fn new_seeing(pid: u32) -> Seeing {
        Seeing::new(identity::cpu_seconds(pid).unwrap_or(0.0))
    }

    /// Takes probes of requests off or puts them on, as the budgets ask. To be called every second.
    pub(super) fn turn_requests(&mut self, sink: &mut Sink<'_>) {
        self.measure_requests();
        let mut services: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, watched) in self.watched.iter().filter(|one| !one.1.ended) {
            services.entry(watched.service).or_default().push(*pid);
        }
        self.duties
            .retain(|service, _| services.contains_key(service));
        let own = self.own_cost() / services.len().max(1) as f64;
        for (service, pids) in services {
            let passed = self.requests_cost(&pids).beside(Passed {
                own,
                ..Passed::default()
            });
            let budget = pids.first().and_then(|pid| self.options_of(*pid).budget);
            // A window of allocations has its own budget, and is worth nothing without requests.
            let allocating = pids.iter().any(|pid| self.allocating(*pid));
            let duty = self
                .duties
                .entry(service)
                .or_insert_with(|| Duty::new(budget));
            duty.pass(passed);
            let step = duty.step(duty.since.elapsed());
            match step {
                Step::Rest if !allocating => duty.turn(true),
                Step::Wake => duty.turn(false),
                Step::Stay | Step::Rest => {}
            }
            let (resting, seconds) = (duty.resting, duty.earned_back_in());
            for pid in pids {
                self.turn_process(service, pid, resting, sink);
            }
            match step {
                Step::Rest if resting => {
                    info!(
                        pid = service,
                        "probes of requests are off for some {seconds:.0} s"
                    );
                }
                // Not when that failed.
                Step::Wake if self.duties.get(&service).is_some_and(|duty| !duty.resting) => {
                    info!(pid = service, "probes of requests are on");
                }
                Step::Stay | Step::Rest | Step::Wake => {}
            }
        }
    }

    /// What seeing their requests has cost these processes since the last time.
    fn requests_cost(&mut self, pids: &[u32]) -> Passed {
        let mut all = Passed::default();
        for pid in pids {
            let rate = self.meter.rate(*pid);
            if let Some(watched) = self.watched.get_mut(pid)
                && let Ok(cpu_seconds) = identity::cpu_seconds(*pid)
            {
                all = all.beside(watched.seeing.pass(cpu_seconds, rate));
            }
        }
        all
    }

    fn allocating(&self, pid: u32) -> bool {
        self.watched.get(&pid).is_some_and(Watched::allocating)
    }

    /// Does with a process what its service does.
    fn turn_process(&mut self, service: u32, pid: u32, resting: bool, sink: &mut Sink<'_>) {
        let turns = self.watched.get(&pid).is_some_and(|watched| {
            watched.seeing.resting != resting
                && watched.exec.is_none()
                && !(resting && watched.allocating())
        });
        if !turns {
            return;
        }
        let done = if resting {
            self.rest(pid, sink)
        } else {
            self.wake(pid, sink)
        };
        if let Err(why) = done {
            warn!(pid, "probes of requests cannot be put on or off: {why}");
            // Not again every second.
            if let Some(duty) = self.duties.get_mut(&service) {
                duty.turn(true);
            }
        }
    }

    fn rest(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        // What has ended by now counts.
        self.pump(sink);
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.config.flags = 0;
        watched.seeing.resting = true;
        let (config, links) = (watched.config, mem::take(&mut watched.links));
        self.set_target(pid, config)?;
        self.forget_threads(pid);
        self.kernel.forget_requests(pid);
        self.release(pid, links);
        self.meter.forget(pid);
        // They may be used again unseen.
        self.forget_tokens(pid);
        self.heap_requests_seen(pid, false);
        sink(pid, Observation::Requests(now(), false));
        Ok(())
    }

    fn wake(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.seeing.resting = false;
        let Some(watched) = self.watched.get(&pid) else {
            return Ok(());
        };
        let flags = self.flags(pid, &watched.target, false);
        let plan = self.plan(&watched.target, false);
        let (_, probes) = by_kind(&plan);
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.config.flags = flags;
        let config = watched.config;
        self.join_release(pid);
        self.set_target(pid, config)?;
        self.forget_threads(pid);
        self.kernel.forget_requests(pid);
        self.heap_requests_seen(pid, true);
        sink(pid, Observation::Requests(now(), true));
        match self.attach_probes(pid, &probes) {
            Ok(links) => {
                if let Some(watched) = self.watched.get_mut(&pid) {
                    watched.links = links;
                }
                self.meter.forget(pid);
                Ok(())
            }
            Err(why) => {
                self.rest(pid, sink)?;
                Err(why.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(31);
    const SHORT: Duration = Duration::from_secs(5);

    /// Seconds of `cpu` and `spent` each, one after the other.
    fn after(duty: &mut Duty, seconds: u32, cpu: f64, spent: f64) {
        for _ in 0..seconds {
            duty.pass(Passed {
                wall: 1.0,
                cpu,
                spent,
                own: 0.0,
            });
        }
    }

    #[test]
    fn what_is_cheap_is_always_seen() {
        let mut duty = Duty::new(Some(0.03));
        // Dear for a service that does little, and yet next to nothing.
        after(&mut duty, 3_600, 0.004, 0.002);
        assert_eq!(duty.step(LONG), Step::Stay);
    }

    #[test]
    fn what_is_spent_is_earned_back_in_a_pause() {
        let mut duty = Duty::new(Some(0.03));
        after(&mut duty, 30, 1.0, 0.2);
        assert_eq!(duty.step(SHORT), Step::Stay, "a window is not cut short");
        assert_eq!(duty.step(LONG), Step::Rest);
        duty.turn(true);
        // 30 s x (20 % - 1 %) are earned back by 1 % in 570 s.
        let seconds = duty.earned_back_in();
        assert!((seconds - 570.0).abs() < 0.1, "{seconds}");
        after(&mut duty, 560, 1.0, 0.0);
        assert_eq!(duty.step(LONG), Step::Stay, "not earned back yet");
        after(&mut duty, 11, 1.0, 0.0);
        assert_eq!(duty.step(SHORT), Step::Stay, "nor is a pause");
        assert_eq!(duty.step(LONG), Step::Wake);
    }

    #[test]
    fn what_heaptide_uses_is_earned_back_and_ends_no_window() {
        let mut duty = Duty::new(Some(0.03));
        let seconds = |duty: &mut Duty, number: u32, spent: f64| {
            for _ in 0..number {
                duty.pass(Passed {
                    wall: 1.0,
                    cpu: 1.0,
                    spent,
                    own: 0.1,
                });
            }
        };
        seconds(&mut duty, 30, 0.005);
        assert_eq!(duty.step(LONG), Step::Stay);
        seconds(&mut duty, 30, 0.02);
        assert_eq!(duty.step(LONG), Step::Rest);
        duty.turn(true);
        // 30 s x 1 %, and 60 s x 10 %.
        let left = duty.earned_back_in();
        assert!((left - 630.0).abs() < 0.1, "{left}");
        // What it uses in the pause is not.
        seconds(&mut duty, 631, 0.0);
        assert_eq!(duty.step(LONG), Step::Wake);
        duty.turn(false);
        assert!(duty.owed <= 0.0);
    }

    #[test]
    fn hours_without_work_are_no_credit() {
        let mut duty = Duty::new(Some(0.03));
        after(&mut duty, 36_000, 0.0, 0.0);
        after(&mut duty, 30, 1.0, 0.2);
        assert_eq!(duty.step(LONG), Step::Rest);
    }

    #[test]
    fn without_a_budget_requests_are_always_seen() {
        let mut duty = Duty::new(None);
        after(&mut duty, 100, 1.0, 0.5);
        assert_eq!(duty.step(LONG), Step::Stay);
    }

    #[test]
    fn what_the_processes_of_a_service_use_is_added_up() {
        let of = |cpu, spent| Passed {
            wall: 1.0,
            cpu,
            spent,
            own: 0.125,
        };
        let all = of(0.5, 0.01).beside(of(0.25, 0.0));
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}");
        near(all.wall, 1.0);
        near(all.cpu, 0.75);
        near(all.spent, 0.01);
        near(all.own, 0.25);
        let mut seeing = Seeing::new(2.0);
        seeing.last.1 -= Duration::from_secs(10);
        let passed = seeing.pass(7.0, 0.1);
        near(passed.cpu, 5.0);
        assert!((seeing.spent - 1.0).abs() < 0.1, "{}", seeing.spent);
        assert!((passed.spent - seeing.spent).abs() < 1e-9);
    }
}
