//! The bound: the largest growth that could have been missed while nothing was found. Pure.
//!
//! The verdict is `no_leak` only if the memory would last longer than the horizon at this rate. docs/judging.md has
//! the formulas.

use crate::events::Nanos;
use crate::growth::Growth;
use crate::growth::signals::clock::RouteCounts;
use crate::growth::signals::family::{Level, Tick};
use crate::growth::signals::{SignalKey, Signals};
use crate::report::Bound;

use super::inputs::Inputs;
use super::judge::Judge;
use super::line::{Line, levels};
use super::observed::Observed;
use super::options::{LEAST_HOLDERS, LEAST_LEVELS};
use super::tables::most_filled;
use super::window::View;

/// Probability that the bound is too low.
const RISK: f64 = 0.05;
/// One-sided quantile of the normal distribution for [`RISK`].
const NORMAL: f64 = 1.645;
/// Bytes that one leaking event is assumed to keep while none was seen.
const LEAST_EVENT: f64 = 1024.0;
/// Free memory that an allocator is assumed to hold, as a part of the anonymous memory. Growth within it does not
/// change the memory of the process. It counts if only the process's memory was observed.
const FREE_PART: f64 = 0.5;
/// The same if containers were counted, so that only other memory (of C extensions) could grow unseen.
const FREE_BESIDE_OBJECTS: f64 = 0.04;
/// The same if allocations were traced too, or if a collector's heap was read.
const FREE_BESIDE_BOTH: f64 = 0.01;
/// Its minimum in bytes.
const FREE_LEAST: f64 = 256.0 * 1024.0;

impl Judge {
    /// The bound from all evidence. `None`: there is none yet.
    pub fn bound(&self, inputs: Inputs) -> Option<Bound> {
        let blocks = self.blocks(inputs);
        let objects = objects(inputs.signals);
        let seen = match (objects, blocks) {
            // The heap was read; blocks of allocators come on top, if there were windows.
            (Some(objects), _) => Some(objects),
            (None, blocks) => blocks,
        };
        let counted = inputs.signals.counts_containers();
        let part = if objects.is_some() && counted && blocks.is_none() {
            Some(FREE_BESIDE_OBJECTS)
        } else if objects.is_some() {
            Some(FREE_BESIDE_BOTH)
        } else if seen.is_none() {
            Some(FREE_PART)
        } else {
            None
        };
        let alone = process(inputs.signals, Some(FREE_PART))?;
        let process = process(inputs.signals, part)?;
        let (rate, seconds, requests) = match seen {
            // All blocks of allocators were observed, so the process may only have grown by other memory.
            Some(blocks) if part.is_none() => {
                let rate = blocks.rate();
                let beyond = (process.rate() - self.resident(rate)).max(0.0);
                (rate + beyond, blocks.seconds, blocks.requests)
            }
            Some(objects) => {
                let seconds = objects.seconds.min(process.seconds);
                // Objects in a collector's heap are seen as blocks too.
                let beside = blocks.filter(|_| counted).map_or(0.0, Observed::rate);
                (objects.rate().max(process.rate()) + beside, seconds, 0.0)
            }
            None => (process.rate(), process.seconds, 0.0),
        };
        let rate = rate.max(self.unshown);
        // If the process did not grow for a long time, that gives a smaller bound than a short window.
        let (rate, seconds, requests) = if alone.rate() < rate {
            (alone.rate(), alone.seconds, 0.0)
        } else {
            (rate, seconds, requests)
        };
        let lasts = self.headroom().map(|headroom| headroom / rate.max(1e-9));
        Some(Bound {
            bytes_per_second: rate,
            seconds,
            lasts_seconds: lasts,
            observe_seconds: lasts.map(|lasts| {
                // The bytes that could have leaked unseen stay the same while the time becomes longer.
                (seconds * self.options.horizon_seconds / lasts.max(1e-9) - seconds).max(0.0)
            }),
            one_in_requests: (requests > 0.0).then(|| (requests / -RISK.ln()).floor().max(1.0)),
            is_whole: false,
            counts_containers: counted,
        })
    }

    /// Allocations that were traced, in this window and in those before it.
    fn blocks(&self, inputs: Inputs) -> Option<Observed> {
        let now = self.of_window(inputs.growth);
        match (inputs.earlier, now) {
            (Some(earlier), Some(now)) => Some(earlier.and(now)),
            (earlier, now) => earlier.or(now),
        }
    }

    /// Allocations of the current window. `None`: no block was seen, or none can be mature yet.
    pub fn of_window(&self, growth: &Growth) -> Option<Observed> {
        if !growth.sees_blocks() {
            return None;
        }
        let epochs = &growth.epochs;
        let mature = epochs.start(0).plus(self.options.maturity_seconds);
        let first = epochs.of(mature)?;
        let half = mature.plus(epochs.now().since(mature) / 2.0);
        let whole = since(growth, first);
        // A warm-up at the start is not evidence of later growth.
        let later = epochs.of(half).and_then(|from| since(growth, from));
        match (whole, later) {
            (Some(whole), Some(later)) if later.rate() < whole.rate() => Some(later),
            (whole, _) => whole,
        }
    }
}

/// What may have leaked since the beginning of epoch `from`.
fn since(growth: &Growth, from: usize) -> Option<Observed> {
    let epochs = &growth.epochs;
    let seconds = epochs.now().since(epochs.start(from));
    if seconds <= 0.0 {
        return None;
    }
    let (mut net, mut held, mut holders, mut variance) = (0.0, 0.0, 0, 0.0);
    for (key, series) in growth.series() {
        let window = View::new(growth, *key, series).window(from);
        net += (window.net - window.returned).max(0.0);
        variance += series.variance();
        // Holders of the whole time are counted, because few may fall into a part of it. A table has one holder and
        // is not an event.
        let of_series: u64 = series.classes.iter().map(|class| class.holders).sum();
        if of_series as f64 >= LEAST_HOLDERS {
            held += series.classes.iter().map(|class| class.bytes).sum::<f64>();
            holders += of_series;
        }
    }
    let requests: u64 = growth
        .all_exposures()
        .flat_map(|all| all.iter().skip(from))
        .flatten()
        .sum();
    let event = (held / holders.max(1) as f64).max(LEAST_EVENT);
    let filled: f64 = growth
        .tables
        .iter()
        .map(|(_, table)| most_filled(table, epochs.now()))
        .sum();
    Some(Observed {
        bytes: net
            + filled * seconds
            + event * more_events(net / event, requests as f64)
            + NORMAL * variance.max(0.0).sqrt(),
        seconds,
        requests: requests as f64,
    })
}

/// How many more events than the `seen` ones must be expected: the upper limit of a Poisson mean. It holds at any
/// stopping time: the risk is spread over the powers of two of the `trials`.
fn more_events(seen: f64, trials: f64) -> f64 {
    let log = -RISK.ln() + 2.0 * (1.0 + (1.0 + trials).log2()).ln();
    log + (2.0 * seen * log).sqrt()
}

/// The objects of a runtime that are read: containers, or what a collector found reachable.
fn objects(signals: &Signals) -> Option<Observed> {
    let heap = slope_of(signals, &SignalKey::Heap);
    if heap.is_some() {
        return heap;
    }
    let family = signals.family(&SignalKey::Container(String::new(), String::new()));
    let ticks = family.ticks();
    if ticks.len() < LEAST_LEVELS {
        return None;
    }
    let half = ticks.len() / 2;
    let seconds = ticks.last()?.at.since(ticks[half].at);
    let mut grown = 0.0;
    let (mut entries, mut bytes) = (0.0, 0.0);
    for (_, signal) in family.signals() {
        let levels: Vec<Level> = signal.levels.iter().skip(half).flatten().copied().collect();
        let (Some(first), Some(last)) = (levels.first(), levels.last()) else {
            continue;
        };
        entries += last.value;
        bytes += last.bytes.unwrap_or(0.0);
        let each = last.bytes.unwrap_or(0.0) / last.value.max(1.0);
        grown += (last.value - first.value).max(0.0) * each.max(64.0);
    }
    let event = if entries > 0.0 { bytes / entries } else { 0.0 }.max(LEAST_EVENT);
    let requests = |tick: &Tick| {
        tick.counts
            .routes
            .iter()
            .map(RouteCounts::requests)
            .sum::<f64>()
    };
    let trials = requests(ticks.last()?) - requests(&ticks[half]);
    (seconds > 0.0).then(|| Observed {
        bytes: grown + event * more_events(grown / event, trials),
        seconds,
        requests: 0.0,
    })
}

/// The levels of a signal as a line: its slope with its error.
fn slope_of(signals: &Signals, key: &SignalKey) -> Option<Observed> {
    let points = levels(signals, key);
    if points.len() < LEAST_LEVELS {
        return None;
    }
    let half = points.len() - (points.len() / 2).max(LEAST_LEVELS);
    let (whole, later) = (most(&points)?, most(&points[half..])?);
    Some(if later.rate() < whole.rate() {
        later
    } else {
        whole
    })
}

fn most(points: &[(Nanos, f64)]) -> Option<Observed> {
    let line = Line::through(points)?;
    let rate = line.slope.max(0.0) + NORMAL * line.error;
    Some(Observed {
        bytes: rate * line.seconds + LEAST_EVENT,
        seconds: line.seconds,
        requests: 0.0,
    })
}

/// From the process's memory: the rise of its floor, and the growth that would not have raised it. `free` is that
/// growth as a part of the anonymous memory.
fn process(signals: &Signals, free: Option<f64>) -> Option<Observed> {
    let points = levels(signals, &SignalKey::Process);
    let anonymous = points.last()?.1;
    let unseen = free.map_or(0.0, |part| (part * anonymous).max(FREE_LEAST));
    // A warm-up or a burst at the start is not evidence of later growth.
    let starts = [0, points.len() / 4, points.len() / 2];
    let rises = starts
        .into_iter()
        .filter_map(|start| rise(&points[start..]));
    let observed = rises.map(|(rise, seconds)| Observed {
        bytes: rise + unseen,
        seconds,
        requests: 0.0,
    });
    observed.min_by(|a, b| a.rate().total_cmp(&b.rate()))
}

/// The rise of the floor from the first to the last quarter, and the seconds between their middles.
fn rise(points: &[(Nanos, f64)]) -> Option<(f64, f64)> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let seconds = 0.75 * last.since(first);
    let quarter = |from: f64, to: f64| {
        let within = |point: &&(Nanos, f64)| {
            let part = point.0.since(first) / last.since(first).max(1e-9);
            part >= from && part <= to
        };
        points
            .iter()
            .filter(within)
            .map(|point| point.1)
            .reduce(f64::min)
    };
    let rise = quarter(0.75, 1.0)? - quarter(0.0, 0.25)?;
    (seconds > 0.0).then_some((rise.max(0.0), seconds))
}
