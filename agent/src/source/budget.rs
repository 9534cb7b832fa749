//! The overhead budget of modes `sample` and `auto`: allocator probes stay on for a window and come off
//! once they have cost more than the budget; when the cost has been earned back another window begins.
//!
//! Frees go unseen between windows, so a window's blocks are forgotten when the next one begins; what was
//! judged at the end of a window stands until then.

use std::time::{Duration, Instant};

use heaptide_ebpf::target_flags;
use tracing::{debug, info, warn};

use super::{Sink, Source, SourceError, now};
use crate::events::Observation;

/// A window is at least this long: blocks are judged 10 s after their request, so a shorter one would
/// only cost.
const WINDOW: Duration = Duration::from_secs(25);
/// Another window begins when the cost is down to this part of the budget.
const EARNED_BACK: f64 = 0.5;

/// What the budget needs to know of a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spending {
    /// Part of the target's CPU time that probes may cost.
    budget: f64,
    /// When the window began, or the pause.
    since: Instant,
    /// Allocator probes are off.
    pub paused: bool,
    /// Seconds of probes before the target was attached.
    base_probe: f64,
    /// CPU seconds of the target at the attach.
    base_cpu: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    Pause,
    Resume,
}

impl Spending {
    /// Nothing spent yet.
    pub(super) fn new(budget: f64, probe_seconds: f64, cpu_seconds: f64) -> Self {
        Self {
            budget,
            since: Instant::now(),
            paused: false,
            base_probe: probe_seconds,
            base_cpu: cpu_seconds,
        }
    }

    fn step(&self, elapsed: Duration, probe_seconds: f64, cpu_seconds: f64) -> Step {
        let spent = probe_seconds - self.base_probe;
        let worked = (cpu_seconds - self.base_cpu).max(0.01);
        let ratio = spent / worked;
        if !self.paused && elapsed >= WINDOW && ratio > self.budget {
            Step::Pause
        } else if self.paused && ratio <= self.budget * EARNED_BACK {
            Step::Resume
        } else {
            Step::Stay
        }
    }
}

impl Source {
    /// Takes allocator probes off or puts them on, as the budgets ask. To be called every second.
    pub(super) fn keep_budgets(&mut self, probe_seconds: f64, sink: &mut Sink<'_>) {
        for pid in self.pids() {
            let Some(spending) = self.watched.get(&pid).and_then(|watched| watched.spending) else {
                continue;
            };
            let Ok(sample) = crate::target::limits(pid, None) else {
                continue;
            };
            let cpu = sample.cpu_ns as f64 / 1e9;
            let done = match spending.step(spending.since.elapsed(), probe_seconds, cpu) {
                Step::Stay => Ok(()),
                Step::Pause => self.pause(pid, sink),
                Step::Resume => self.resume(pid, sink),
            };
            if let Err(why) = done {
                warn!(pid, "the overhead budget cannot be kept: {why}");
            }
        }
    }

    fn pause(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        // What the window has seen is judged before it ends.
        self.snapshot_now(sink)?;
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.config.flags &= !(target_flags::ALLOCATIONS | target_flags::MAPPINGS);
        // The next window is another address space, as it were: blocks of this one mean nothing then.
        watched.config.space += 1;
        self.kernel.set_target(pid, watched.config)?;
        self.kernel.forget_threads(&watched.target.threads);
        watched.links.clear();
        if let Some(spending) = &mut watched.spending {
            spending.paused = true;
            spending.since = Instant::now();
        }
        let said = "allocations are watched in windows, to keep within the overhead budget; the verdict \
                    rests on the last window (mode trace watches all the time)";
        let limitations = &mut watched.target.info.limitations;
        if !limitations.iter().any(|limitation| limitation == said) {
            limitations.push(said.to_owned());
        }
        let target = watched.target.clone();
        info!(
            pid,
            "allocator probes are off: the overhead budget is used up"
        );
        sink(pid, Observation::Target(now(), target.info.clone()));
        let mut plan = self.plan(&target);
        plan.probes.retain(|probe| !probe.program.is_allocator());
        let links = self.attach_probes(pid, &plan)?;
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.links = links;
        }
        Ok(())
    }

    fn resume(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let Some(watched) = self.watched.get(&pid) else {
            return Ok(());
        };
        let flags = self.flags(pid, &watched.target);
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.config.flags = flags;
        watched.begin_window();
        let (target, config) = (watched.target.clone(), watched.config);
        self.kernel.set_target(pid, config)?;
        self.kernel.forget_threads(&target.threads);
        sink(pid, Observation::Forgotten(now()));
        let plan = self.plan(&target);
        let links = self.attach_probes(pid, &plan)?;
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.links = links;
            if let Some(spending) = &mut watched.spending {
                spending.paused = false;
                spending.since = Instant::now();
            }
        }
        debug!(pid, "allocator probes are on again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_when_it_cost_too_much_and_begins_when_that_is_earned_back() {
        let mut spending = Spending::new(0.03, 1.0, 100.0);
        let long = Duration::from_secs(60);
        let short = Duration::from_secs(5);
        assert_eq!(
            spending.step(short, 2.0, 101.0),
            Step::Stay,
            "a window is not cut short"
        );
        assert_eq!(spending.step(long, 2.0, 101.0), Step::Pause);
        assert_eq!(
            spending.step(long, 1.02, 101.0),
            Step::Stay,
            "within the budget"
        );
        spending.paused = true;
        assert_eq!(spending.step(long, 2.0, 120.0), Step::Stay);
        assert_eq!(spending.step(long, 2.0, 200.0), Step::Resume);
        assert_eq!(
            spending.step(long, 1.0, 100.0),
            Step::Resume,
            "no work is no reason to divide by zero"
        );
    }
}
