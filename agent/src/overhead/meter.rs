//! What seeing requests costs each target: probes are measured for a second now and then, and system calls, which
//! others make too, are reckoned by their number.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracing::debug;

use crate::kernel::Kernel;
use crate::kernel::spent::{Measuring, Spent};

/// Between two measurements.
const EVERY: Duration = Duration::from_secs(5);
/// Nanoseconds that a hit takes besides its program, where that was not measured.
pub const HIT_NS: f64 = 700.0;
/// Nanoseconds of a system call that is looked at, where a hit takes [`HIT_NS`]: 233 of any call (`cargo xtask bench
/// syscalls`), and the look itself.
const CALL_NS: f64 = 300.0;
/// The same of a request whose head is read there (`cargo xtask bench request-cost`: 8.5 us with its calls).
const HEAD_NS: f64 = 6_000.0;
/// Whoever it talks with makes as many calls, and on the same host they are traced as well.
const BOTH_ENDS: f64 = 2.0;
/// Seeing a request costs a service so many times what the programs and their traps take: its caches are used by others.
/// An estimate by one Go and one Python service on one machine, whose throughput in a window (`cargo xtask bench go` and
/// `bench python`) fell by more than was metered; with [`BOTH_ENDS`] it errs on the side of longer pauses.
const AROUND: f64 = 1.5;
/// A request costs about as much as so many system calls that are only looked at.
const REQUEST_WEIGHT: u64 = 8;

/// Measures what tracing requests costs.
pub struct Meter {
    under_way: Option<(Measuring, HashMap<u32, Events>)>,
    due: Instant,
    /// CPU seconds per second of each target.
    rates: HashMap<u32, f64>,
    /// Nanoseconds that a hit takes besides its program.
    pub hit_ns: f64,
    refused: bool,
}

/// What was seen of a target so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// Requests.
    pub requests: u64,
    /// System calls that were looked at.
    pub calls: u64,
}

impl Events {
    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            calls: self.calls.saturating_sub(before.calls),
        }
    }

    fn weight(self) -> f64 {
        (self.requests * REQUEST_WEIGHT + self.calls) as f64
    }
}

impl Meter {
    /// Nothing measured yet.
    #[expect(clippy::new_without_default, reason = "it begins at a time")]
    pub fn new() -> Self {
        Self {
            under_way: None,
            due: Instant::now(),
            rates: HashMap::new(),
            hit_ns: HIT_NS,
            refused: false,
        }
    }

    /// CPU seconds per second that seeing the requests of a target cost it lately.
    pub fn rate(&self, pid: u32) -> f64 {
        self.rates.get(&pid).copied().unwrap_or(0.0)
    }

    /// A target's requests begin to be seen, or are no longer: what was measured does not hold, and is to
    /// be measured soon.
    pub fn forget(&mut self, pid: u32) {
        self.rates.remove(&pid);
        self.under_way = None;
        self.due = Instant::now();
    }

    /// Begins to measure, or ends it. To be called every second. `events` says what was seen so far of each target
    /// whose requests are traced.
    pub fn step(&mut self, kernel: &Kernel, events: impl FnOnce() -> HashMap<u32, Events>) {
        if let Some((measuring, before)) = self.under_way.take() {
            let spent = kernel.measured(&measuring, false);
            drop(measuring);
            let now = events();
            let seen = before
                .into_iter()
                .filter_map(|(pid, before)| Some((pid, now.get(&pid)?.since(before))))
                .collect();
            self.take(&spent, &seen);
            self.due = Instant::now() + EVERY;
            return;
        }
        if self.refused || Instant::now() < self.due {
            return;
        }
        let seen = events();
        if seen.is_empty() {
            return;
        }
        match kernel.measure(false) {
            Ok(measuring) => self.under_way = Some((measuring, seen)),
            Err(why) => {
                debug!("the cost of request probes cannot be measured: {why}");
                self.refused = true;
            }
        }
    }

    fn take(&mut self, spent: &Spent, seen: &HashMap<u32, Events>) {
        let seconds = spent.lasted.as_secs_f64().max(0.1);
        self.rates = shares(spent, seen, self.hit_ns)
            .map(|(pid, cost)| (pid, cost / seconds))
            .collect();
    }
}

/// CPU seconds of each target. What probes cost is shared by what was seen of each.
fn shares<'a>(
    spent: &Spent,
    seen: &'a HashMap<u32, Events>,
    hit_ns: f64,
) -> impl Iterator<Item = (u32, f64)> + 'a {
    let in_probes = spent.probes.nanoseconds as f64 + spent.probes.hits as f64 * hit_ns;
    let weights: f64 = seen.values().map(|events| events.weight()).sum();
    let share = move |events: &Events| {
        if weights > 0.0 {
            events.weight() / weights
        } else {
            1.0 / seen.len() as f64
        }
    };
    let speed = hit_ns / HIT_NS * BOTH_ENDS;
    seen.iter().map(move |(pid, events)| {
        let probes = in_probes * share(events);
        // Go's heads are read in its probes: none of its calls is looked at.
        let heads = if events.calls > 0 { events.requests } else { 0 };
        let called = (events.calls as f64 * CALL_NS + heads as f64 * HEAD_NS) * speed;
        (*pid, (probes + called) * AROUND / 1e9)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::spent::Runs;

    #[test]
    fn what_probes_cost_is_shared_by_what_was_seen() {
        let spent = Spent {
            lasted: Duration::from_secs(2),
            probes: Runs {
                nanoseconds: 3_000_000,
                hits: 1_000,
            },
        };
        let events = |requests, calls| Events { requests, calls };
        let seen = HashMap::from([(1, events(900, 0)), (2, events(10, 720))]);
        let mut meter = Meter::new();
        meter.hit_ns = 1_000.0;
        meter.take(&spent, &seen);
        // Of 4 ms of probes nine tenths; its heads are read by them.
        assert!(
            (meter.rate(1) / AROUND - 0.0018).abs() < 1e-9,
            "{}",
            meter.rate(1)
        );
        // A tenth of them, 0.216 ms in calls and 0.06 ms in heads, on a host where all takes longer, at both ends.
        let called = 0.276 * 1_000.0 / HIT_NS * BOTH_ENDS;
        assert!((meter.rate(2) / AROUND - (0.4 + called) / 2e3).abs() < 1e-9);
        assert!(meter.rate(3).abs() < f64::EPSILON);
        meter.forget(1);
        assert!(meter.rate(1).abs() < f64::EPSILON);
    }

    #[test]
    fn probes_that_cost_without_requests_are_shared_evenly() {
        let spent = Spent {
            lasted: Duration::from_secs(1),
            probes: Runs {
                nanoseconds: 2_000_000,
                hits: 0,
            },
        };
        let seen = HashMap::from([(1, Events::default()), (2, Events::default())]);
        let mut meter = Meter::new();
        meter.take(&spent, &seen);
        assert!((meter.rate(1) / AROUND - 0.001).abs() < 1e-9);
        assert!((meter.rate(2) / AROUND - 0.001).abs() < 1e-9);
    }
}
