//! Measures what tracing requests costs each target: probes are timed for a second now and then if the kernel allows
//! it, and otherwise estimated from their number. System calls are always estimated, because other processes make them
//! too. What the same calls cost a service's peers on the host is not the service's, and `cargo xtask bench syscalls`
//! measures it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracing::debug;

use crate::kernel::Kernel;
use crate::kernel::spent::{Measuring, Spent};

/// Interval between two measurements.
const EVERY: Duration = Duration::from_secs(5);
/// Default cost of a trap in nanoseconds, without its program.
pub const HIT_NS: f64 = 700.0;
/// Default time of a request's program in nanoseconds, if it is not measured: reading a task takes half of that; a head
/// in Go takes several times as much, but there are as many short ones.
const PROGRAM_NS: f64 = 700.0;
/// Cost of a traced system call in nanoseconds, if a trap costs [`HIT_NS`]: 233 for any call (`cargo xtask bench
/// syscalls`), and its processing.
const CALL_NS: f64 = 300.0;
/// The same for a request whose head is read there (`cargo xtask bench request-cost`: 8.5 us with its calls).
const HEAD_NS: f64 = 6_000.0;
/// Factor for indirect costs, such as cache misses. Estimated from one Go and one Python service on one machine, whose
/// throughput in a window (`cargo xtask bench go` and `bench python`) fell by more than was metered.
const AROUND: f64 = 1.5;
/// A request costs about as much as so many plain system calls.
const REQUEST_WEIGHT: u64 = 8;

/// Measures the cost of tracing requests.
pub struct Meter {
    under_way: Option<(Measuring, HashMap<u32, Events>)>,
    due: Instant,
    /// CPU seconds per second of each target.
    rates: HashMap<u32, f64>,
    /// If the kernel does not measure: the events at this time.
    counted: Option<(Instant, HashMap<u32, Events>)>,
    /// Cost of a trap in nanoseconds, without its program.
    pub hit_ns: f64,
    refused: bool,
}

/// Numbers of events of a target so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// Requests.
    pub requests: u64,
    /// System calls processed.
    pub calls: u64,
    /// Probes of requests and tasks.
    pub hits: u64,
}

impl Events {
    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            calls: self.calls.saturating_sub(before.calls),
            hits: self.hits.saturating_sub(before.hits),
        }
    }

    fn weight(self) -> f64 {
        (self.requests * REQUEST_WEIGHT + self.calls) as f64
    }
}

impl Meter {
    /// Starts without measurements.
    #[expect(clippy::new_without_default, reason = "it begins at a time")]
    pub fn new() -> Self {
        Self {
            under_way: None,
            due: Instant::now(),
            rates: HashMap::new(),
            counted: None,
            hit_ns: HIT_NS,
            refused: false,
        }
    }

    /// Recent cost of tracing the requests of a target, in CPU seconds per second.
    pub fn rate(&self, pid: u32) -> f64 {
        self.rates.get(&pid).copied().unwrap_or(0.0)
    }

    /// Request tracing of a target was turned on or off: its measurement is invalid, and the next one is due.
    pub fn forget(&mut self, pid: u32) {
        self.rates.remove(&pid);
        self.under_way = None;
        self.counted = None;
        self.due = Instant::now();
    }

    /// Starts or ends a measurement. Called every second. `events` returns the events so far of each target whose
    /// requests are traced.
    pub fn step(&mut self, kernel: &Kernel, events: impl FnOnce() -> HashMap<u32, Events>) {
        if let Some((measuring, before)) = self.under_way.take() {
            let spent = kernel.measured(&measuring, false);
            drop(measuring);
            let seen = since(&events(), before);
            self.take(&spent, &seen);
            self.due = Instant::now() + EVERY;
            return;
        }
        if Instant::now() < self.due {
            return;
        }
        let seen = events();
        if self.refused {
            self.count(seen);
            return;
        }
        if seen.is_empty() {
            return;
        }
        match kernel.measure(false) {
            Ok(measuring) => self.under_way = Some((measuring, seen)),
            Err(why) => {
                debug!("the cost of request probes is estimated, not measured: {why}");
                self.refused = true;
                self.count(seen);
            }
        }
    }

    fn take(&mut self, spent: &Spent, seen: &HashMap<u32, Events>) {
        let seconds = spent.lasted.as_secs_f64().max(0.1);
        self.rates = shares(spent, seen, self.hit_ns)
            .map(|(pid, cost)| (pid, cost / seconds))
            .collect();
    }

    /// Estimates the costs from the events since the last call. Each target has its own hits.
    fn count(&mut self, now: HashMap<u32, Events>) {
        if let Some((at, before)) = self.counted.take() {
            let seconds = at.elapsed().as_secs_f64().max(0.1);
            let hit_ns = self.hit_ns;
            self.rates = since(&now, before)
                .into_iter()
                .map(|(pid, events)| {
                    let in_probes = events.hits as f64 * (hit_ns + PROGRAM_NS);
                    (pid, cost(in_probes, &events, hit_ns) / seconds)
                })
                .collect();
        }
        self.counted = Some((Instant::now(), now));
    }
}

/// CPU seconds of each target. The cost of probes is shared in proportion to events.
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
    seen.iter()
        .map(move |(pid, events)| (*pid, cost(in_probes * share(events), events, hit_ns)))
}

/// CPU seconds of a target whose probes took so many nanoseconds.
fn cost(in_probes: f64, events: &Events, hit_ns: f64) -> f64 {
    let speed = hit_ns / HIT_NS;
    // Go's heads are read in its probes, not in system calls.
    let heads = if events.calls > 0 { events.requests } else { 0 };
    let called = (events.calls as f64 * CALL_NS + heads as f64 * HEAD_NS) * speed;
    (in_probes + called) * AROUND / 1e9
}

/// Events of each target that was observed before too.
fn since(now: &HashMap<u32, Events>, before: HashMap<u32, Events>) -> HashMap<u32, Events> {
    let seen = before
        .into_iter()
        .filter_map(|(pid, before)| Some((pid, now.get(&pid)?.since(before))));
    seen.collect()
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
        let events = |requests, calls| Events {
            requests,
            calls,
            hits: 0,
        };
        let seen = HashMap::from([(1, events(900, 0)), (2, events(10, 720))]);
        let mut meter = Meter::new();
        meter.hit_ns = 1_000.0;
        meter.take(&spent, &seen);
        // Nine tenths of 4 ms of probes; its heads are read in them.
        assert!(
            (meter.rate(1) / AROUND - 0.0018).abs() < 1e-9,
            "{}",
            meter.rate(1)
        );
        // One tenth, plus 0.216 ms for calls and 0.06 ms for heads, scaled for a slower host.
        let called = 0.276 * 1_000.0 / HIT_NS;
        assert!((meter.rate(2) / AROUND - (0.4 + called) / 2e3).abs() < 1e-9);
        assert!(meter.rate(3).abs() < f64::EPSILON);
        meter.forget(1);
        assert!(meter.rate(1).abs() < f64::EPSILON);
    }

    #[test]
    fn where_nothing_is_measured_hits_are_counted() {
        let mut meter = Meter::new();
        let events = |hits| {
            HashMap::from([(
                1,
                Events {
                    hits,
                    ..Events::default()
                },
            )])
        };
        meter.count(events(1_000));
        assert!(
            meter.rate(1).abs() < f64::EPSILON,
            "nothing to compare with"
        );
        meter.counted = meter
            .counted
            .take()
            .and_then(|(at, seen)| Some((at.checked_sub(Duration::from_secs(2))?, seen)));
        meter.count(events(11_000));
        let expected = 10_000.0 * (HIT_NS + PROGRAM_NS) * AROUND / 1e9 / 2.0;
        assert!(
            (meter.rate(1) / expected - 1.0).abs() < 0.05,
            "{} instead of {expected}",
            meter.rate(1)
        );
        meter.forget(1);
        assert!(meter.counted.is_none());
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
