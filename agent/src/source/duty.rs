//! Requests in windows: where they come so fast that seeing each would cost more than its part of the overhead
//! budget, their probes come off until that is earned back.
//!
//! What a request costs is the same for all, so it is the busy and light-handed service that this concerns:
//! one that is asked 20,000 times a second by a load test. There a window of half a minute sees more
//! than hours do elsewhere.

use std::{
    mem,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{Sink, Source, SourceError, now, probes::by_kind};
use crate::{events::Observation, target};

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

/// How the requests of one target are seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    /// Part of the target's CPU time that seeing them may cost; `None`: whatever it is.
    budget: Option<f64>,
    /// Their probes are off.
    pub resting: bool,
    /// Since when they are on, or off.
    since: Instant,
    /// CPU seconds of the target at the last step, and when that was.
    last: (f64, Instant),
    /// CPU seconds per second that it used up to then.
    pace: f64,
    /// CPU seconds spent beyond what is allowed, and not earned back yet.
    owed: f64,
    /// CPU seconds that seeing requests has cost since the attach.
    pub spent: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    Rest,
    Wake,
}

impl Duty {
    /// For a target that begins to be observed; `overhead` is the budget for all.
    pub(super) fn new(overhead: Option<f64>, cpu_seconds: f64) -> Self {
        Self {
            budget: overhead.map(|part| part * SHARE),
            resting: false,
            since: Instant::now(),
            last: (cpu_seconds, Instant::now()),
            pace: 0.0,
            owed: 0.0,
            spent: 0.0,
        }
    }

    /// Time has passed: `wall` seconds, of which the target has used `cpu`, and seeing its requests `spent`.
    fn pass(&mut self, wall: f64, cpu: f64, spent: f64) {
        self.spent += spent;
        self.pace = cpu / wall.max(0.001);
        if let Some(budget) = self.budget {
            let allowed = (budget * cpu).max(FREE * wall);
            self.owed = (self.owed + spent - allowed).max(0.0);
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

    fn turn(&mut self, resting: bool) {
        self.resting = resting;
        self.since = Instant::now();
    }
}

impl Source {
    /// How the requests of a target that begins to be observed are seen.
    pub(super) fn new_duty(&self, pid: u32) -> Duty {
        let cpu = target::limits(pid, None).map_or(0.0, |sample| sample.cpu_ns as f64 / 1e9);
        Duty::new(self.options_of(pid).budget, cpu)
    }

    /// Takes probes of requests off or puts them on, as the budgets ask. To be called every second.
    pub(super) fn turn_requests(&mut self, sink: &mut Sink<'_>) {
        self.measure_requests();
        for pid in self.pids() {
            let rate = self.meter.rate(pid);
            let Some(watched) = self.watched.get_mut(&pid).filter(|watched| !watched.ended) else {
                continue;
            };
            let Ok(sample) = target::limits(pid, None) else {
                continue;
            };
            let duty = &mut watched.duty;
            let (cpu, at) = (sample.cpu_ns as f64 / 1e9, Instant::now());
            let wall = (at - duty.last.1).as_secs_f64();
            let used = (cpu - duty.last.0).max(0.0);
            duty.last = (cpu, at);
            duty.pass(wall, used, rate * wall);
            let step = duty.step(duty.since.elapsed());
            let done = match step {
                // A window of allocations has its own budget, and is worth nothing without requests.
                Step::Rest if !watched.allocating() && watched.exec.is_none() => {
                    self.rest(pid, sink)
                }
                Step::Wake if watched.exec.is_none() => self.wake(pid, sink),
                Step::Stay | Step::Rest | Step::Wake => Ok(()),
            };
            if let Err(why) = done {
                warn!(pid, "probes of requests cannot be put on or off: {why}");
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
        watched.duty.turn(true);
        let seconds = watched.duty.earned_back_in();
        let (config, links) = (watched.config, mem::take(&mut watched.links));
        self.set_target(pid, config)?;
        self.forget_threads(pid);
        self.kernel.forget_requests(pid);
        self.release(pid, links);
        self.meter.forget(pid);
        // They may be used again unseen.
        self.forget_tokens(pid);
        info!(pid, "probes of requests are off for some {seconds:.0} s");
        sink(pid, Observation::Requests(now(), false));
        Ok(())
    }

    fn wake(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.duty.turn(false);
        let target = watched.target.clone();
        let flags = self.flags(pid, &target, false);
        let plan = self.plan(&target, false);
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
        sink(pid, Observation::Requests(now(), true));
        match self.attach_probes(pid, &probes) {
            Ok(links) => {
                if let Some(watched) = self.watched.get_mut(&pid) {
                    watched.links = links;
                }
                self.meter.forget(pid);
                info!(pid, "probes of requests are on");
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
            duty.pass(1.0, cpu, spent);
        }
    }

    #[test]
    fn what_is_cheap_is_always_seen() {
        let mut duty = Duty::new(Some(0.03), 0.0);
        // Dear for a service that does little, and yet next to nothing.
        after(&mut duty, 3_600, 0.004, 0.002);
        assert_eq!(duty.step(LONG), Step::Stay);
        assert!((duty.spent - 7.2).abs() < 1e-6);
    }

    #[test]
    fn what_is_spent_is_earned_back_in_a_pause() {
        let mut duty = Duty::new(Some(0.03), 0.0);
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
    fn hours_without_work_are_no_credit() {
        let mut duty = Duty::new(Some(0.03), 0.0);
        after(&mut duty, 36_000, 0.0, 0.0);
        after(&mut duty, 30, 1.0, 0.2);
        assert_eq!(duty.step(LONG), Step::Rest);
    }

    #[test]
    fn without_a_budget_requests_are_always_seen() {
        let mut duty = Duty::new(None, 0.0);
        after(&mut duty, 100, 1.0, 0.5);
        assert_eq!(duty.step(LONG), Step::Stay);
        assert!((duty.spent - 50.0).abs() < 1e-6);
    }
}
