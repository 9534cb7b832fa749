//! Modes `sample` and `auto`: allocator probes stay on for a *window* and come off when they have cost more
//! than the budget. In mode `sample` another window begins when the cost has been earned back, in mode
//! `auto` when besides the floor of the process's memory rises; there a window also ends when all is judged.
//!
//! Frees go unseen between windows, so a window's blocks are forgotten when the next one begins; what was
//! judged at the end of a window stands until then. A window that is worth anything is longer than the
//! blocks' maturity, so the budget holds on average: a window is an advance, and the next one has
//! to wait until the target has worked enough for it.

use std::{
    mem,
    time::{Duration, Instant},
};

use heaptide_ebpf::target_flags;
use tracing::{info, warn};

use super::{PREFILL, Sink, Source, SourceError, floor::Floor, now};
use heaptide_judge::events::{MemorySample, Observation, Opinion};
use heaptide_process::{identity, limits};

/// A window is at least this long: blocks are judged 10 s after their request, so a shorter one would
/// only cost. One in which growth was found may end earlier.
const WINDOW: Duration = Duration::from_secs(25);
/// Another window begins when the cost is down to this part of the budget.
const EARNED_BACK: f64 = 0.5;
/// What was found is looked at again after this time, when memory has not made that happen before.
const STALE: Duration = Duration::from_secs(600);

/// The windows of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Part of the target's CPU time that probes may cost.
    budget: f64,
    /// Mode `auto`: the memory that is waited for.
    floor: Option<Floor>,
    /// When the window began, or the pause.
    since: Instant,
    /// Allocator probes are off.
    pub paused: bool,
    /// CPU seconds of the target at the attach.
    base_cpu: f64,
    /// Of the window under way, or of the last one.
    opinion: Opinion,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    Pause,
    Resume,
}

impl Windows {
    /// For a target that begins to be observed. Mode `auto` begins without probes.
    pub(super) fn new(budget: f64, auto: bool, cpu_seconds: f64) -> Self {
        Self {
            budget,
            floor: auto.then(Floor::default),
            since: Instant::now(),
            paused: auto,
            base_cpu: cpu_seconds,
            opinion: Opinion::Open,
        }
    }

    /// Takes memory and CPU time of the target, and what the probes have cost it since the attach.
    fn step(&mut self, elapsed: Duration, probe_seconds: f64, sample: &MemorySample) -> Step {
        let cpu_seconds = sample.cpu_ns as f64 / 1e9;
        let ratio = probe_seconds / (cpu_seconds - self.base_cpu).max(0.01);
        if self.paused {
            let wanted = self.floor.as_mut().is_none_or(|floor| {
                floor.observe(sample.at, sample.rss_anon);
                let stale = self.opinion != Opinion::Open && elapsed >= STALE;
                floor.rises() || stale
            });
            if wanted && ratio <= self.budget * EARNED_BACK {
                return Step::Resume;
            }
            return Step::Stay;
        }
        let long = elapsed >= WINDOW;
        let over = ratio > self.budget && (long || self.opinion != Opinion::Open);
        let done = long && self.floor.is_some() && self.opinion == Opinion::Settled;
        if over || done {
            Step::Pause
        } else {
            Step::Stay
        }
    }

    /// The window, or the pause, begins now.
    fn turn(&mut self, paused: bool) {
        self.paused = paused;
        self.since = Instant::now();
        if let Some(floor) = &mut self.floor {
            *floor = Floor::default();
        }
        if !paused {
            self.opinion = Opinion::Open;
        }
    }
}

impl Source {
    /// Whether the judge's opinion of a target's window matters now.
    pub fn in_window(&self, pid: u32) -> bool {
        self.watched
            .get(&pid)
            .and_then(|watched| watched.windows)
            .is_some_and(|windows| !windows.paused)
    }

    /// What the judge thinks of a target's window.
    pub fn set_opinion(&mut self, pid: u32, opinion: Opinion) {
        if let Some(windows) = self
            .watched
            .get_mut(&pid)
            .and_then(|watched| watched.windows.as_mut())
        {
            windows.opinion = opinion;
        }
    }

    /// The windows of a target that begins to be observed, if its mode has any.
    pub(super) fn new_windows(&self, pid: u32) -> Option<Windows> {
        let options = self.options_of(pid);
        let budget = options.budget.filter(|_| options.allocations)?;
        let cpu = identity::cpu_seconds(pid).unwrap_or(0.0);
        Some(Windows::new(budget, options.automatic, cpu))
    }

    /// Takes allocator probes off or puts them on, as the budgets ask. To be called every second.
    pub(super) fn turn_windows(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        for pid in self.pids() {
            let losses = self.losses(pid)?;
            let Some(watched) = self.watched.get_mut(&pid).filter(|watched| !watched.ended) else {
                continue;
            };
            let Some(windows) = &mut watched.windows else {
                continue;
            };
            let Ok(sample) = limits::limits(pid, None) else {
                continue;
            };
            let spent = losses.probe_seconds - watched.seeing.spent;
            let done = match windows.step(windows.since.elapsed(), spent, &sample) {
                // Without requests nobody could say whose the blocks are.
                Step::Resume if watched.seeing.resting => Ok(()),
                Step::Stay => Ok(()),
                Step::Pause => self.pause(pid, sink),
                Step::Resume => self.resume(pid, sink),
            };
            if let Err(why) = done {
                warn!(pid, "allocator probes cannot be put on or off: {why}");
            }
        }
        Ok(())
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
        if let Some(windows) = &mut watched.windows {
            windows.turn(true);
        }
        let (config, links) = (watched.config, mem::take(&mut watched.allocator_links));
        self.set_target(pid, config)?;
        self.forget_threads(pid);
        self.release(pid, links);
        info!(pid, "allocator probes are off");
        sink(pid, Observation::Window(now(), false));
        Ok(())
    }

    fn resume(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        if let Some(windows) = &mut watched.windows {
            windows.turn(false);
        }
        watched.begin_window();
        if self.options.stacks {
            watched.prefill(&mut self.kernel, PREFILL);
        }
        let Some(watched) = self.watched.get(&pid) else {
            return Ok(());
        };
        let flags = self.flags(pid, &watched.target, true);
        let plan = self.plan(&watched.target, true);
        let probes: Vec<_> = plan
            .probes
            .iter()
            .filter(|probe| probe.program.is_allocator())
            .collect();
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.config.flags = flags;
        let config = watched.config;
        self.join_release(pid);
        self.set_target(pid, config)?;
        self.forget_threads(pid);
        sink(pid, Observation::Window(now(), true));
        match self.attach_probes(pid, &probes) {
            Ok(links) => {
                if let Some(watched) = self.watched.get_mut(&pid) {
                    watched.allocator_links = links;
                }
                info!(pid, "allocator probes are on");
                Ok(())
            }
            Err(why) => {
                self.pause(pid, sink)?;
                Err(why.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::events::Nanos;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_secs(5);

    fn sample(second: u32, cpu_seconds: f64, rss_anon: u64) -> MemorySample {
        MemorySample {
            at: Nanos::from_seconds(f64::from(second)),
            cpu_ns: (cpu_seconds * 1e9) as u64,
            rss_anon,
            ..MemorySample::default()
        }
    }

    #[test]
    fn a_window_ends_when_it_cost_too_much_and_begins_when_that_is_earned_back() {
        let mut windows = Windows::new(0.03, false, 100.0);
        let cpu = |seconds| sample(0, seconds, 0);
        assert_eq!(
            windows.step(SHORT, 1.0, &cpu(101.0)),
            Step::Stay,
            "a window is not cut short"
        );
        assert_eq!(windows.step(LONG, 1.0, &cpu(101.0)), Step::Pause);
        assert_eq!(
            windows.step(LONG, 0.02, &cpu(101.0)),
            Step::Stay,
            "within the budget"
        );
        windows.set(Opinion::Settled);
        assert_eq!(
            windows.step(LONG, 0.02, &cpu(101.0)),
            Step::Stay,
            "mode sample goes on"
        );
        assert_eq!(
            windows.step(SHORT, 1.0, &cpu(101.0)),
            Step::Pause,
            "what was to be found is found"
        );
        windows.turn(true);
        assert_eq!(windows.step(LONG, 1.0, &cpu(120.0)), Step::Stay);
        assert_eq!(windows.step(LONG, 1.0, &cpu(200.0)), Step::Resume);
        assert_eq!(
            windows.step(LONG, 0.0, &cpu(100.0)),
            Step::Resume,
            "no work is no reason to divide by zero"
        );
    }

    #[test]
    fn auto_waits_for_growth_and_ends_when_all_is_judged() {
        let mut windows = Windows::new(0.03, true, 0.0);
        assert!(windows.paused);
        for second in 0..120 {
            let flat = sample(second, 10.0, 20 << 20);
            assert_eq!(windows.step(LONG, 0.0, &flat), Step::Stay);
        }
        let began = (120..200).find(|second| {
            let rising = sample(*second, 10.0, u64::from(*second) << 17);
            windows.step(LONG, 0.0, &rising) == Step::Resume
        });
        assert!(began.is_some());
        windows.turn(false);
        let now = sample(200, 10.0, 30 << 20);
        assert_eq!(windows.step(LONG, 0.1, &now), Step::Stay);
        windows.set(Opinion::Suspicion);
        assert_eq!(
            windows.step(LONG, 0.1, &now),
            Step::Stay,
            "it may be confirmed"
        );
        windows.set(Opinion::Settled);
        assert_eq!(windows.step(LONG, 0.1, &now), Step::Pause);
        windows.turn(true);
        assert_eq!(windows.step(LONG, 0.1, &now), Step::Stay);
        assert_eq!(
            windows.step(STALE, 0.1, &now),
            Step::Resume,
            "what was found is looked at again"
        );
    }

    impl Windows {
        fn set(&mut self, opinion: Opinion) {
            self.opinion = opinion;
        }
    }
}
