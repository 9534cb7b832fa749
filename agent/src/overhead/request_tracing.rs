//! When the requests of a service are traced: all the time, unless that exceeds its part of the overhead budget.
//! Then the probes are detached until the excess is earned back. A pure controller.
//!
//! The cost per request is the same for all services, so pauses occur for busy services with cheap requests, such
//! as 20,000 requests per second in a load test. There a window of half a minute has more requests than hours
//! elsewhere.
//!
//! A service is paused as a whole, including its idle processes, because tracing system calls for one process costs
//! all of them.

use std::time::{Duration, Instant};

use super::turn::Turn;

/// Minimum window: a leak is suspected within it.
const WINDOW: Duration = Duration::from_secs(30);
/// Minimum pause.
const PAUSE: Duration = Duration::from_secs(30);
/// Fraction of the budget for requests (1 % with the default budget); the rest is for allocations.
const SHARE: f64 = 1.0 / 3.0;
/// Exempt from the budget: 1 % of one core.
const EXEMPT: f64 = 0.01;
/// Excess in CPU seconds that ends a window.
const TOLERATED: f64 = 0.1;

/// Cost of tracing the requests of one process.
#[derive(Clone, Copy, Debug)]
pub struct RequestCost {
    /// CPU seconds of the process at the last step, and the time of that step.
    last: (f64, Instant),
    /// CPU seconds that tracing requests has cost since the attach.
    spent: f64,
}

impl RequestCost {
    /// For a process that has used so many CPU seconds by now.
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

    /// Takes the CPU seconds used by now and the cost rate; returns the usage since the last call.
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

/// Usage between two steps.
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
    /// Adds another process in the same interval.
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
    /// Fraction of its CPU time that tracing requests may cost; `None`: unlimited.
    budget: Option<f64>,
    /// The probes should be off.
    paused: bool,
    /// Start of the window or the pause.
    since: Instant,
    /// Recent CPU seconds per second of the service.
    pace: f64,
    /// Excess over the budget that is not earned back yet, in CPU seconds.
    owed: f64,
    /// CPU seconds of heaptide itself in this window.
    own: f64,
}

impl RequestTracing {
    /// For a new service; `overhead` is the budget for all probes.
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

    /// The probes should be off.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Takes the usage since the last call.
    pub fn pass(&mut self, spent: Spent) {
        self.pace = spent.cpu / spent.wall.max(0.001);
        self.own += spent.own;
        if let Some(budget) = self.budget {
            let allowed = (budget * spent.cpu).max(EXEMPT * spent.wall);
            self.owed = (self.owed + spent.spent - allowed).max(0.0);
        }
    }

    /// Decides what to do with the probes.
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

    /// Seconds until the excess is earned back, at the present CPU usage.
    pub fn earned_back_in(&self) -> f64 {
        let allowed = self.budget.unwrap_or(0.0) * self.pace;
        (self.owed / allowed.max(EXEMPT)).max(PAUSE.as_secs_f64())
    }

    /// A window or a pause begins. heaptide's own CPU time in a window is earned back as well. It does not end a
    /// window, because it hardly depends on the number of requests.
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

    /// Start time of the controllers in these tests.
    fn start() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START
    }

    /// Passes `seconds` of `cpu` and `spent` each.
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
        // Relatively expensive, but below the exempt 1 % of a core.
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
        // 30 s x (20 % - 1 %) is earned back at 1 % in 570 s.
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
        // Its usage in a pause does not count.
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
