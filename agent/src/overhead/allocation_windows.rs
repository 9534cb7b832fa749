//! Allocation windows of modes `sample` and `auto`: a pure controller. Allocator probes stay on for a
//! *window* and are detached when they have cost more than the budget. In mode `sample` the next window
//! begins when the average cost is below half of the budget. Mode `auto` also waits until the memory floor
//! rises (see [`Policy`]); there a window also ends when all is judged.
//!
//! Frees between windows are not seen, so blocks of a window are dropped when the next one begins. Its
//! verdict holds until then. A useful window is longer than the blocks' maturity age, so the budget holds on
//! average, not within a window.

use std::time::{Duration, Instant};

use super::floor::Floor;
use super::turn::Turn;
use heaptide_judge::events::{MemorySample, Opinion};

/// Minimum window: blocks are judged 10 s after their request, so a shorter one is useless. A window in
/// which growth was found may end earlier.
const WINDOW: Duration = Duration::from_secs(25);
/// Exempt from the budget: this part of one core. On a service that does little, a small cost is a large percentage.
const EXEMPT: f64 = 0.01;
/// The next window begins when the average cost is below this fraction of the budget.
const EARNED_BACK: f64 = 0.5;
/// Time in which most leaks of objects that are read are suspected.
const READING: Duration = Duration::from_secs(15);
/// Time after a window with a suspicion in which the growth of the process may confirm it. Another window in that time would
/// begin without blocks.
const FOLLOWED: Duration = Duration::from_secs(100);
/// A window begins after this time at the latest, if the budget allows it.
const STALE: Duration = Duration::from_secs(600);

/// When windows begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Mode `sample`: as often as the budget allows.
    Always,
    /// Mode `auto` of the daemon: when memory grows.
    Growth,
    /// Mode `auto` of `attach`: at once, and as often as the budget allows until the judge has decided; later when
    /// memory grows.
    AtOnce,
    /// Mode `auto` where the objects of the runtime are read: when memory grows and the judge does not know from them
    /// why, as with memory of C extensions. For `attach` also once when it has had time to find that out, because such
    /// memory may grow within free memory.
    Unexplained {
        /// For `attach`.
        at_once: bool,
    },
}

/// The windows of one target.
#[derive(Clone, Copy, Debug)]
pub struct AllocationWindows {
    /// Fraction of the target's CPU time that probes may cost.
    budget: f64,
    policy: Policy,
    /// The memory floor.
    floor: Floor,
    /// Start of the window or the pause.
    since: Instant,
    /// Allocator probes are off.
    paused: bool,
    /// They were on at some time.
    opened: bool,
    /// CPU seconds of the target at the attach.
    base_cpu: f64,
    /// What the probes have cost by the last step, and had when the window began, CPU seconds.
    spent: f64,
    spent_before: f64,
    /// Part of one core that they cost in the window under way, or in the last one.
    of_core: f64,
    /// Opinion of the current or last window.
    opinion: Opinion,
}

impl AllocationWindows {
    /// For a new target.
    pub fn new(budget: f64, policy: Policy, cpu_seconds: f64, now: Instant) -> Self {
        Self {
            budget,
            policy,
            floor: Floor::default(),
            since: now,
            paused: matches!(policy, Policy::Growth | Policy::Unexplained { .. }),
            opened: false,
            base_cpu: cpu_seconds,
            spent: 0.0,
            spent_before: 0.0,
            of_core: f64::INFINITY,
            opinion: Opinion::Open,
        }
    }

    /// Takes memory and CPU time of the target, and the cost of its probes since the attach.
    pub fn step(&mut self, now: Instant, probe_seconds: f64, sample: &MemorySample) -> Turn {
        let elapsed = now.saturating_duration_since(self.since);
        let cpu_seconds = sample.cpu_ns as f64 / 1e9;
        self.spent = probe_seconds;
        let ratio = probe_seconds / (cpu_seconds - self.base_cpu).max(0.01);
        if self.paused {
            self.floor.observe(sample.at, sample.rss_anon);
            let wanted = match self.policy {
                Policy::Always => true,
                Policy::AtOnce if self.opinion != Opinion::Settled => true,
                Policy::AtOnce | Policy::Growth => self.floor.rises() || elapsed >= STALE,
                Policy::Unexplained { at_once } => {
                    let first = at_once && !self.opened && elapsed >= READING;
                    (first || self.floor.rises()) && self.opinion != Opinion::Settled
                }
            };
            let followed = self.policy != Policy::Always
                && self.opinion == Opinion::Suspicion
                && elapsed < FOLLOWED;
            if wanted
                && !followed
                && (ratio <= self.budget * EARNED_BACK || self.of_core < self.exempt())
            {
                return Turn::Resume;
            }
            return Turn::Stay;
        }
        self.of_core = (probe_seconds - self.spent_before) / elapsed.as_secs_f64().max(1.0);
        let long = elapsed >= WINDOW;
        let over = ratio > self.budget
            && self.of_core >= self.exempt()
            && (long || self.opinion != Opinion::Open);
        let done = long && self.policy != Policy::Always && self.opinion == Opinion::Settled;
        if over || done {
            Turn::Pause
        } else {
            Turn::Stay
        }
    }

    /// Part of one core that is exempt. Whoever sets a smaller budget wants less.
    fn exempt(&self) -> f64 {
        EXEMPT.min(self.budget)
    }

    /// Allocator probes are off.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// The judge's opinion is needed now.
    pub fn wants_opinion(&self) -> bool {
        !self.paused || matches!(self.policy, Policy::Unexplained { .. })
    }

    /// Sets the judge's opinion of the window.
    pub fn set_opinion(&mut self, opinion: Opinion) {
        self.opinion = opinion;
    }

    /// A window or a pause begins.
    pub fn turn(&mut self, paused: bool, now: Instant) {
        self.paused = paused;
        self.since = now;
        self.floor = Floor::default();
        if !paused {
            self.opened = true;
            self.spent_before = self.spent;
            self.opinion = Opinion::Open;
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
        let start = Instant::now();
        let mut windows = AllocationWindows::new(0.03, Policy::Always, 100.0, start);
        let cpu = |seconds| sample(0, seconds, 0);
        assert_eq!(
            windows.step(start + SHORT, 1.0, &cpu(101.0)),
            Turn::Stay,
            "a window is not cut short"
        );
        assert_eq!(windows.step(start + LONG, 1.0, &cpu(101.0)), Turn::Pause);
        assert_eq!(
            windows.step(start + LONG, 0.02, &cpu(101.0)),
            Turn::Stay,
            "within the budget"
        );
        windows.set_opinion(Opinion::Settled);
        assert_eq!(
            windows.step(start + LONG, 0.02, &cpu(101.0)),
            Turn::Stay,
            "mode sample goes on"
        );
        assert_eq!(
            windows.step(start + SHORT, 1.0, &cpu(101.0)),
            Turn::Pause,
            "what was to be found is found"
        );
        windows.turn(true, start);
        assert_eq!(windows.step(start + LONG, 1.0, &cpu(120.0)), Turn::Stay);
        assert_eq!(windows.step(start + LONG, 1.0, &cpu(200.0)), Turn::Resume);
        assert_eq!(
            windows.step(start + LONG, 0.0, &cpu(100.0)),
            Turn::Resume,
            "no work is no reason to divide by zero"
        );
    }

    #[test]
    fn auto_waits_for_growth_and_ends_when_all_is_judged() {
        let start = Instant::now();
        let mut windows = AllocationWindows::new(0.03, Policy::Growth, 0.0, start);
        assert!(windows.paused);
        for second in 0..120 {
            let flat = sample(second, 10.0, 20 << 20);
            assert_eq!(windows.step(start + LONG, 0.0, &flat), Turn::Stay);
        }
        let began = (120..200).find(|second| {
            let rising = sample(*second, 10.0, u64::from(*second) << 17);
            windows.step(start + LONG, 0.0, &rising) == Turn::Resume
        });
        assert!(began.is_some());
        windows.turn(false, start);
        let now = sample(200, 10.0, 30 << 20);
        assert_eq!(windows.step(start + LONG, 0.1, &now), Turn::Stay);
        windows.set_opinion(Opinion::Suspicion);
        assert_eq!(
            windows.step(start + LONG, 0.1, &now),
            Turn::Stay,
            "it may be confirmed"
        );
        windows.set_opinion(Opinion::Settled);
        assert_eq!(windows.step(start + LONG, 0.1, &now), Turn::Pause);
        windows.turn(true, start);
        assert_eq!(windows.step(start + LONG, 0.1, &now), Turn::Stay);
        assert_eq!(
            windows.step(start + STALE, 0.1, &now),
            Turn::Resume,
            "what was found is looked at again"
        );
    }

    #[test]
    fn what_was_suspected_is_followed_without_probes() {
        let start = Instant::now();
        for policy in [Policy::AtOnce, Policy::Growth] {
            let mut windows = AllocationWindows::new(0.03, policy, 0.0, start);
            windows.turn(false, start);
            windows.set_opinion(Opinion::Suspicion);
            windows.turn(true, start);
            let began = (1..300).find(|second| {
                let rising = sample(*second, 400.0, u64::from(*second) << 18);
                let now = start + Duration::from_secs(u64::from(*second));
                windows.step(now, 1.0, &rising) == Turn::Resume
            });
            assert_eq!(began, Some(100), "{policy:?}");
        }
    }

    #[test]
    fn what_is_cheap_goes_on() {
        let start = Instant::now();
        let mut windows = AllocationWindows::new(0.03, Policy::AtOnce, 0.0, start);
        let idle = sample(1, 0.1, 20 << 20);
        assert_eq!(windows.step(start, 0.0, &idle), Turn::Stay);
        // 0.3 s in 60 s: half a percent of a core, though a third of what the service uses.
        let later = sample(60, 1.0, 20 << 20);
        assert_eq!(windows.step(start + LONG, 0.3, &later), Turn::Stay);
        assert_eq!(windows.step(start + LONG, 0.9, &later), Turn::Pause);
    }

    #[test]
    fn objects_that_are_read_come_first() {
        let start = Instant::now();
        let (soon, later) = (start + SHORT, start + READING);
        let flat = sample(20, 10.0, 20 << 20);
        let new =
            |at_once| AllocationWindows::new(0.03, Policy::Unexplained { at_once }, 0.0, start);
        let (mut attach, mut daemon) = (new(true), new(false));
        assert!(attach.paused() && attach.wants_opinion());
        assert_eq!(attach.step(soon, 0.0, &flat), Turn::Stay);
        assert_eq!(daemon.step(later, 0.0, &flat), Turn::Stay, "nothing grows");
        attach.set_opinion(Opinion::Settled);
        assert_eq!(
            attach.step(later, 0.0, &flat),
            Turn::Stay,
            "a container grows"
        );
        attach.set_opinion(Opinion::Open);
        assert_eq!(attach.step(later, 0.0, &flat), Turn::Resume);
        attach.turn(false, later);
        attach.turn(true, later + LONG);
        let after = later + LONG + LONG;
        assert_eq!(attach.step(after, 0.0, &flat), Turn::Stay, "once is enough");
        let rises = |windows: &mut AllocationWindows| {
            (20..60).any(|second| {
                let rising = sample(second, 10.0, u64::from(second) << 20);
                windows.step(after, 0.0, &rising) == Turn::Resume
            })
        };
        assert!(rises(&mut attach) && rises(&mut daemon));
    }

    #[test]
    fn an_attach_looks_at_once_and_until_the_judge_has_decided() {
        let start = Instant::now();
        let mut windows = AllocationWindows::new(0.03, Policy::AtOnce, 0.0, start);
        assert!(!windows.paused());
        let now = sample(30, 10.0, 20 << 20);
        assert_eq!(windows.step(start + LONG, 5.0, &now), Turn::Pause);
        windows.turn(true, start);
        assert_eq!(windows.step(start + LONG, 5.0, &now), Turn::Stay);
        let later = sample(60, 400.0, 20 << 20);
        assert_eq!(windows.step(start + LONG, 5.0, &later), Turn::Resume);
        windows.turn(false, start);
        windows.set_opinion(Opinion::Settled);
        assert_eq!(windows.step(start + LONG, 5.0, &later), Turn::Pause);
        windows.turn(true, start);
        assert_eq!(windows.step(start + LONG, 5.0, &later), Turn::Stay);
    }
}
