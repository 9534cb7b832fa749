//! Figures of one series over a range of epochs up to now. The gates test them.

use crate::attribution::keys::Class;
use crate::growth::epochs::Epochs;
use crate::growth::series::{Epoch, Series};
use crate::growth::{Exposure, Growth, SeriesKey};

use super::options::{FLOOR_PART, FRESH_HOLDERS, FRESH_PART, FRESH_SECONDS};

/// The events against which growth is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Requests whose blocks could have matured.
    Requests,
    /// Requests of those with a token that is new on the route.
    NewTokens,
    /// Seconds, for background memory.
    Seconds,
}

/// A series with its exposures and epochs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The series.
    pub series: &'a Series,
    /// Its exposures; empty for background.
    pub exposures: &'a [Exposure],
    /// The epochs of both.
    pub epochs: &'a Epochs,
}

impl<'a> View<'a> {
    /// A series with its exposures.
    pub fn new(growth: &'a Growth, key: SeriesKey, series: &'a Series) -> Self {
        Self {
            series,
            exposures: growth.exposures(key.route),
            epochs: &growth.epochs,
        }
    }
}

/// Figures of the epochs `from..`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// First epoch.
    pub from: usize,
    /// Seconds from its beginning.
    pub seconds: f64,
    /// Bytes that matured.
    pub matured: f64,
    /// Holders of those.
    pub holders: f64,
    /// Holders that live.
    pub alive: f64,
    /// Bytes evicted, of any cohort.
    pub evicted: f64,
    /// Bytes from before the observation that were freed and are taken to be this series'.
    pub returned: f64,
    /// Bytes for which blocks of other sizes from before the observation were freed.
    pub balanced: f64,
    /// Mature bytes now less those at the beginning.
    pub net: f64,
    /// Live part of all matured bytes.
    pub kept: f64,
    /// The same of the earlier half.
    pub kept_old: f64,
    /// Least mature bytes in the last third.
    pub late_floor: f64,
    /// Least mature bytes in the last [`FLOOR_PART`].
    pub fresh_floor: f64,
    /// First epoch of the last third.
    pub late_from: usize,
    /// Ratio of late to early growth per event, by the clock with the largest ratio.
    pub linearity: f64,
    /// Ratio of recent to mean growth per event. `None`: too little traffic.
    pub freshness: Option<f64>,
}

impl Window {
    /// Bytes from before the observation that were freed, of the same and of other sizes.
    pub fn released(&self) -> f64 {
        self.returned + self.balanced
    }
}

impl View<'_> {
    /// The clocks of this series.
    fn clocks(&self) -> &'static [Clock] {
        if self.exposures.is_empty() {
            &[Clock::Seconds]
        } else {
            &[Clock::Requests, Clock::NewTokens]
        }
    }

    /// Events of `clock` in epoch `i`.
    fn ticks(&self, clock: Clock, i: usize) -> f64 {
        let exposed = self.exposures.get(i).copied().unwrap_or_default();
        match clock {
            Clock::Requests => exposed.iter().sum::<u64>() as f64,
            Clock::NewTokens => {
                (exposed[Class::New.index()] + exposed[Class::NewHere.index()]) as f64
            }
            Clock::Seconds => self.epochs.seconds(i),
        }
    }

    /// Events of the first clock in some epochs.
    pub fn events(&self, epochs: std::ops::Range<usize>) -> f64 {
        epochs.map(|i| self.ticks(self.clocks()[0], i)).sum()
    }

    /// Whether there is no epoch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of epochs.
    pub fn len(&self) -> usize {
        self.series.epochs.len()
    }

    /// The first epoch in which anything matured.
    pub fn first(&self) -> Option<usize> {
        self.series
            .epochs
            .iter()
            .position(|epoch| epoch.matured() > 0.0)
    }

    /// Mature bytes before epoch `i`.
    pub fn before(&self, i: usize) -> f64 {
        i.checked_sub(1).map_or(0.0, |i| self.series.epochs[i].end)
    }

    /// Growth of mature bytes over `from..to`.
    fn growth(&self, from: usize, to: usize) -> f64 {
        self.before(to) - self.before(from)
    }

    /// Growth per event over `from..to`; `None` without events.
    fn rate(&self, clock: Clock, from: usize, to: usize) -> Option<f64> {
        let ticks: f64 = (from..to).map(|i| self.ticks(clock, i)).sum();
        (ticks > 0.0).then(|| self.growth(from, to) / ticks)
    }

    /// Highest mature bytes before epoch `i`.
    pub fn peak_before(&self, i: usize) -> f64 {
        self.series.epochs[..i]
            .iter()
            .map(|epoch| epoch.peak)
            .fold(0.0, f64::max)
    }

    /// Evicted part of the bytes that matured before epoch `i`.
    pub fn evicting_before(&self, i: usize) -> f64 {
        let epochs = &self.series.epochs[..i];
        let matured: f64 = epochs.iter().map(Epoch::matured).sum();
        let evicted: f64 = epochs.iter().map(|epoch| epoch.evicted).sum();
        let returned: f64 = epochs
            .iter()
            .map(|epoch| epoch.returned + epoch.balanced)
            .sum();
        if matured > 0.0 {
            (evicted + returned) / matured
        } else {
            0.0
        }
    }

    /// Measures the epochs `from..`.
    pub fn window(&self, from: usize) -> Window {
        let epochs = &self.series.epochs[from..];
        let matured: f64 = epochs.iter().map(Epoch::matured).sum();
        let live: f64 = epochs.iter().map(Epoch::live).sum();
        let seconds = self.epochs.now().since(self.epochs.start(from));
        let last = self.len() - 1;
        let latest = |part: f64| {
            let start = self.epochs.now().seconds() - part;
            (from..last)
                .find(|i| self.epochs.start(*i).seconds() >= start)
                .unwrap_or(last)
        };
        let floor = |from: usize| {
            let floors = self.series.epochs[from..].iter().map(|e| e.floor);
            floors.fold(f64::INFINITY, f64::min)
        };
        let late_from = latest(seconds / 3.0);
        let late_floor = floor(late_from);
        let fresh_floor = floor(latest((FLOOR_PART * seconds).max(FRESH_SECONDS)));
        Window {
            from,
            seconds,
            matured,
            holders: epochs.iter().map(Epoch::holders).sum(),
            alive: epochs.iter().map(Epoch::alive).sum(),
            evicted: epochs.iter().map(|epoch| epoch.evicted).sum(),
            returned: epochs.iter().map(|epoch| epoch.returned).sum(),
            balanced: epochs.iter().map(|epoch| epoch.balanced).sum(),
            net: self.growth(from, self.len()),
            kept: if matured > 0.0 { live / matured } else { 0.0 },
            kept_old: kept_old(epochs, matured),
            late_floor,
            fresh_floor,
            late_from,
            linearity: self.linearity(from),
            freshness: self.freshness(from),
        }
    }

    fn linearity(&self, from: usize) -> f64 {
        let to = self.len();
        let ratio = |clock: &Clock| {
            let total: f64 = (from..to).map(|i| self.ticks(*clock, i)).sum();
            let mut sum = 0.0;
            let half = (from..to).find(|i| {
                sum += self.ticks(*clock, *i);
                sum >= total / 2.0
            })? + 1;
            // If one epoch holds more than half of all events, it counts as one half.
            let half = if half >= to { to - 1 } else { half };
            if half <= from {
                return None;
            }
            let early = self.rate(*clock, from, half)?;
            let late = self.rate(*clock, half, to)?;
            // Growth before the window counts too: a short window must not hide that it was faster.
            let before = self.rate(*clock, 0, from).unwrap_or(0.0);
            let against = early.max(before);
            Some(if against > 0.0 {
                late / against
            } else {
                f64::from(u8::from(late > 0.0))
            })
        };
        self.clocks().iter().filter_map(ratio).fold(0.0, f64::max)
    }

    fn freshness(&self, from: usize) -> Option<f64> {
        let to = self.len();
        let holders: f64 = self.series.epochs[from..].iter().map(Epoch::holders).sum();
        let least =
            FRESH_SECONDS.max(FRESH_PART * self.epochs.now().since(self.epochs.start(from)));
        let by_clock = |clock: &Clock| {
            let total: f64 = (from..to).map(|i| self.ticks(*clock, i)).sum();
            let mean = self.rate(*clock, from, to).filter(|mean| *mean > 0.0)?;
            let mut ticks = 0.0;
            let start = (from..to).rev().find(|i| {
                ticks += self.ticks(*clock, *i);
                let expected = holders * ticks / total;
                expected >= FRESH_HOLDERS && self.epochs.now().since(self.epochs.start(*i)) >= least
            })?;
            Some((self.rate(*clock, start, to)? / mean).max(0.0))
        };
        self.clocks().iter().filter_map(by_clock).reduce(f64::max)
    }
}

/// Live part of the earlier half (by bytes) of the matured memory.
fn kept_old(epochs: &[Epoch], matured: f64) -> f64 {
    let (mut sum, mut live) = (0.0, 0.0);
    for epoch in epochs {
        let next = sum + epoch.matured();
        if sum > 0.0 && next > matured / 2.0 {
            break;
        }
        sum = next;
        live += epoch.live();
    }
    if sum > 0.0 { live / sum } else { 0.0 }
}
