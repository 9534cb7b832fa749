//! When the requests of a service are traced: all the time, unless that costs more than its part of the overhead
//! budget. Then their probes come off until the excess is earned back. A pure controller: costs and times in,
//! a decision out.
//!
//! Tracing a request costs every service the same, so this concerns busy services whose requests are cheap: one
//! that gets 20,000 requests a second from a load test. There a window of half a minute sees more than hours do
//! elsewhere.
//!
//! A service is paused as a whole, with its idle processes too: one that still needs system calls traced keeps that
//! on for all.

use std::time::{Duration, Instant};

use super::turn::Turn;

/// A window is at least this long: a leak is suspected within it.
const WINDOW: Duration = Duration::from_secs(30);
/// A pause is at least this long.
const PAUSE: Duration = Duration::from_secs(30);
/// The part of the budget that is for requests, with the default budget 1 %; the rest is for allocations.
const SHARE: f64 = 1.0 / 3.0;
/// Exempt from the budget: 1 % of one core.
const EXEMPT: f64 = 0.01;
/// CPU seconds that may be owed before a window ends.
const TOLERATED: f64 = 0.1;

/// What tracing its requests costs one process.
#[derive(Clone, Copy, Debug)]
pub struct RequestCost {
    /// CPU seconds of the process at the last step, and when that was.
    last: (f64, Instant),
    /// CPU seconds that tracing requests has cost since the attach.
    spent: f64,
}

impl RequestCost {
    /// Of a process that has used so many CPU seconds by now.
    pub fn new(cpu_seconds: f64, now: Instant) -> Self {
        Self {
            last: (cpu_seconds, now),
            spent: 0.0,
        }
    }

    /// CPU seconds that tracing requests has cost since the attach.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// Takes the CPU seconds used by now, and the cost per second; what has passed since the last time.
    pub fn pass(&mut self, cpu_seconds: f64, rate: f64, now: Instant) -> Spent {
        let wall = now.saturating_duration_since(self.last.1).as_secs_f64();
        let cpu = (cpu_seconds - self.last.0).max(0.0);
        self.last = (cpu_seconds, now);
        self.spent += rate * wall;
        Spent {
            wall,
            cpu,
            spent: rate * wall,
            own: 0.0,
        }
    }
}

/// What has passed between two steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Seconds.
    pub wall: f64,
    /// CPU seconds that the service has used.
    pub cpu: f64,
    /// CPU seconds that tracing its requests has cost it.
    pub spent: f64,
    /// CPU seconds of heaptide itself.
    pub own: f64,
}

impl Spent {
    /// Together with another process in the same time.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            wall: self.wall.max(other.wall),
            cpu: self.cpu + other.cpu,
            spent: self.spent + other.spent,
            own: self.own + other.own,
        }
    }
}

/// The controller of one service.
#[derive(Clone, Copy, Debug)]
pub struct RequestTracing {
    /// Part of its CPU time that tracing requests may cost; `None`: whatever it is.
    budget: Option<f64>,
    /// The probes are to be off.
    paused: bool,
    /// Since when they are on, or off.
    since: Instant,
    /// CPU seconds per second that the service used last.
    pace: f64,
    /// CPU seconds spent beyond what is allowed, and not earned back yet.
    owed: f64,
    /// CPU seconds of heaptide itself in this window.
    own: f64,
}

impl RequestTracing {
    /// For a service that begins to be observed; `overhead` is the budget for all probes.
    pub fn new(overhead: Option<f64>, now: Instant) -> Self {
        Self {
            budget: overhead.map(|part| part * SHARE),
            paused: false,
            since: now,
            pace: 0.0,
            owed: 0.0,
            own: 0.0,
        }
    }

    /// The probes are to be off.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Takes what was spent since the last time.
    pub fn pass(&mut self, spent: Spent) {
        self.pace = spent.cpu / spent.wall.max(0.001);
        self.own += spent.own;
        if let Some(budget) = self.budget {
            let allowed = (budget * spent.cpu).max(EXEMPT * spent.wall);
            self.owed = (self.owed + spent.spent - allowed).max(0.0);
        }
    }

    /// What is to become of the probes.
    pub fn step(&self, now: Instant) -> Turn {
        let elapsed = now.saturating_duration_since(self.since);
        if self.paused {
            return if elapsed >= PAUSE && self.owed <= 0.0 {
                Turn::Resume
            } else {
                Turn::Stay
            };
        }
        if self.owed > TOLERATED && elapsed >= WINDOW {
            Turn::Pause
        } else {
            Turn::Stay
        }
    }

    /// Seconds until what is owed is earned back, if the service goes on to use so much CPU time.
    pub fn earned_back_in(&self) -> f64 {
        let allowed = self.budget.unwrap_or(0.0) * self.pace;
        (self.owed / allowed.max(EXEMPT)).max(PAUSE.as_secs_f64())
    }

    /// A window ends or begins. What heaptide itself has used in a window is earned back as well; it
    /// does not end one, because it hardly depends on how many requests come.
    pub fn turn(&mut self, paused: bool, now: Instant) {
        if paused && !self.paused && self.budget.is_some() {
            self.owed += self.own;
        }
        self.own = 0.0;
        self.paused = paused;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(31);
    const SHORT: Duration = Duration::from_secs(5);

    /// When every controller of these tests begins.
    fn start() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START
    }

    /// Seconds of `cpu` and `spent` each, one after the other.
    fn after(tracing: &mut RequestTracing, seconds: u32, cpu: f64, spent: f64) {
        for _ in 0..seconds {
            tracing.pass(Spent {
                wall: 1.0,
                cpu,
                spent,
                own: 0.0,
            });
        }
    }

    #[test]
    fn what_is_cheap_is_always_seen() {
        let mut tracing = RequestTracing::new(Some(0.03), start());
        // Dear for a service that does little, and yet next to nothing.
        after(&mut tracing, 3_600, 0.004, 0.002);
        assert_eq!(tracing.step(start() + LONG), Turn::Stay);
    }

    #[test]
    fn what_is_spent_is_earned_back_in_a_pause() {
        let mut tracing = RequestTracing::new(Some(0.03), start());
        after(&mut tracing, 30, 1.0, 0.2);
        assert_eq!(
            tracing.step(start() + SHORT),
            Turn::Stay,
            "a window is not cut short"
        );
        assert_eq!(tracing.step(start() + LONG), Turn::Pause);
        tracing.turn(true, start());
        // 30 s x (20 % - 1 %) are earned back by 1 % in 570 s.
        let seconds = tracing.earned_back_in();
        assert!((seconds - 570.0).abs() < 0.1, "{seconds}");
        after(&mut tracing, 560, 1.0, 0.0);
        assert_eq!(
            tracing.step(start() + LONG),
            Turn::Stay,
            "not earned back yet"
        );
        after(&mut tracing, 11, 1.0, 0.0);
        assert_eq!(tracing.step(start() + SHORT), Turn::Stay, "nor is a pause");
        assert_eq!(tracing.step(start() + LONG), Turn::Resume);
    }

    #[test]
    fn what_heaptide_uses_is_earned_back_and_ends_no_window() {
        let mut tracing = RequestTracing::new(Some(0.03), start());
        let seconds = |tracing: &mut RequestTracing, number: u32, spent: f64| {
            for _ in 0..number {
                tracing.pass(Spent {
                    wall: 1.0,
                    cpu: 1.0,
                    spent,
                    own: 0.1,
                });
            }
        };
        seconds(&mut tracing, 30, 0.005);
        assert_eq!(tracing.step(start() + LONG), Turn::Stay);
        seconds(&mut tracing, 30, 0.02);
        assert_eq!(tracing.step(start() + LONG), Turn::Pause);
        tracing.turn(true, start());
        // 30 s x 1 %, and 60 s x 10 %.
        let left = tracing.earned_back_in();
        assert!((left - 630.0).abs() < 0.1, "{left}");
        // What it uses in the pause is not.
        seconds(&mut tracing, 631, 0.0);
        assert_eq!(tracing.step(start() + LONG), Turn::Resume);
        tracing.turn(false, start());
        assert!(tracing.owed <= 0.0);
    }

    #[test]
    fn hours_without_work_are_no_credit() {
        let mut tracing = RequestTracing::new(Some(0.03), start());
        after(&mut tracing, 36_000, 0.0, 0.0);
        after(&mut tracing, 30, 1.0, 0.2);
        assert_eq!(tracing.step(start() + LONG), Turn::Pause);
    }

    #[test]
    fn without_a_budget_requests_are_always_seen() {
        let mut tracing = RequestTracing::new(None, start());
        after(&mut tracing, 100, 1.0, 0.5);
        assert_eq!(tracing.step(start() + LONG), Turn::Stay);
    }

    #[test]
    fn what_the_processes_of_a_service_use_is_added_up() {
        let of = |cpu, spent| Spent {
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
        let mut cost = RequestCost::new(2.0, start());
        let spent = cost.pass(7.0, 0.1, start() + Duration::from_secs(10));
        near(spent.cpu, 5.0);
        near(cost.spent(), 1.0);
        near(spent.spent, cost.spent());
    }
}
