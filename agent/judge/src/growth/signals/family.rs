//! A family: growth signals that are read at the same times, with at most [`MOST_TICKS`] levels each.

use std::collections::BTreeMap;

use crate::events::Nanos;

use super::clock::Counts;
use super::key::{About, SignalKey};

/// Maximum number of times. Old ones are thinned out.
pub const MOST_TICKS: usize = 64;
/// Number of newest times that are never thinned out.
const UNTHINNED: usize = 16;
/// A time at which request tracing begins or ends is kept longer by this factor: without it, the traced requests
/// before or after it could not be used as evidence.
const BOUNDARY: f64 = 8.0;
/// The same for a time between traced requests.
const TRACED: f64 = 3.0;
/// Maximum number of signals of one family.
pub const MOST_SIGNALS: usize = 256;
/// Number of consecutive complete readings without a signal after which it is gone,
const GONE: u32 = 2;
/// if it rose by at least this much before.
const RISEN: f64 = 8.0;

/// A level at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Entries or bytes.
    pub value: f64,
    /// Bytes, where they are known.
    pub bytes: Option<f64>,
    /// Minimum level since the previous time.
    pub low: f64,
    /// Maximum level since the previous time.
    pub high: f64,
}

impl Level {
    /// A level as it was read.
    pub fn of(value: f64, bytes: Option<f64>) -> Self {
        Self {
            value,
            bytes,
            low: value,
            high: value,
        }
    }
}

/// A time at which signals were read.
#[derive(Clone, Debug)]
pub struct Tick {
    /// When.
    pub at: Nanos,
    /// Request totals at that time.
    pub counts: Counts,
}

/// One signal.
#[derive(Clone, Debug)]
pub struct Signal {
    /// By time. `None`: not read.
    pub levels: Vec<Option<Level>>,
    /// Its attributes.
    pub about: About,
    missed: u32,
    /// Minimum level so far, and maximum rise above it.
    lowest: f64,
    risen: f64,
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            about: About::default(),
            missed: 0,
            lowest: f64::INFINITY,
            risen: 0.0,
        }
    }
}

/// Signals that are read at the same times.
#[derive(Clone, Debug, Default)]
pub struct Family {
    ticks: Vec<Tick>,
    signals: BTreeMap<SignalKey, Signal>,
    refused: u64,
}

impl Family {
    /// Takes a reading. Returns `false` if it is not later than the last one.
    pub fn push(
        &mut self,
        at: Nanos,
        counts: Counts,
        levels: Vec<(SignalKey, Level, About)>,
        whole: bool,
    ) -> bool {
        if self.ticks.last().is_some_and(|last| at <= last.at) {
            return false;
        }
        let before = self.ticks.len();
        self.ticks.push(Tick { at, counts });
        for (key, level, about) in levels {
            if !self.signals.contains_key(&key) && !self.make_room() {
                continue;
            }
            let signal = self.signals.entry(key).or_default();
            signal.levels.resize(before, None);
            signal.lowest = signal.lowest.min(level.low);
            signal.risen = signal.risen.max(level.high - signal.lowest);
            // Two containers of the same path and kind are one signal.
            signal.levels.push(Some(level));
            signal.levels.truncate(before + 1);
            signal.missed = 0;
            if !about.writers.is_empty() || about.site.is_some() {
                signal.about = about;
            }
        }
        for signal in self.signals.values_mut() {
            if signal.levels.len() > before {
                continue;
            }
            signal.missed += u32::from(whole);
            // Small signals that do not grow may be missing because the census reports only the biggest.
            let gone = signal.missed >= GONE && signal.risen >= RISEN;
            signal.levels.resize(before, None);
            signal.levels.push(gone.then(Level::default));
        }
        self.signals.retain(|_, signal| signal.missed < 8 * GONE);
        self.thin();
        true
    }

    /// Times, oldest first.
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// All signals.
    pub fn signals(&self) -> impl Iterator<Item = (&SignalKey, &Signal)> {
        self.signals.iter()
    }

    /// One signal.
    pub fn get(&self, key: &SignalKey) -> Option<&Signal> {
        self.signals.get(key)
    }

    /// Signals refused because the family was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let counts: usize = self.ticks.iter().map(|tick| tick.counts.routes.len()).sum();
        counts * size_of::<super::clock::RouteCounts>()
            + self.signals.len() * (MOST_TICKS * size_of::<Option<Level>>() + 400)
    }

    /// Drops the signal that has been missing longest.
    fn make_room(&mut self) -> bool {
        if self.signals.len() < MOST_SIGNALS {
            return true;
        }
        let missing = self.signals.iter().max_by_key(|(_, signal)| signal.missed);
        let Some(key) = missing
            .filter(|(_, signal)| signal.missed > 0)
            .map(|(key, _)| key.clone())
        else {
            self.refused += 1;
            return false;
        };
        self.signals.remove(&key);
        true
    }

    /// If there are too many times, drops the one with the shortest interval relative to its age. Its
    /// extremes are merged into the next one.
    fn thin(&mut self) {
        if self.ticks.len() <= MOST_TICKS {
            return;
        }
        let Some(now) = self.ticks.last().map(|tick| tick.at) else {
            return;
        };
        let assumed = |i: usize| {
            self.ticks[i]
                .counts
                .is_assumed_since(&self.ticks[i - 1].counts)
        };
        let cost = |i: &usize| {
            let width = self.ticks[i + 1].at.since(self.ticks[i - 1].at);
            let factor = match (assumed(*i), assumed(i + 1)) {
                (true, true) => 1.0,
                (false, false) => TRACED,
                _ => BOUNDARY,
            };
            factor * width / now.since(self.ticks[i - 1].at).max(1e-9)
        };
        let Some(at) =
            (1..self.ticks.len() - UNTHINNED - 1).min_by(|a, b| cost(a).total_cmp(&cost(b)))
        else {
            return;
        };
        self.ticks.remove(at);
        for signal in self.signals.values_mut() {
            let gone = signal.levels.remove(at);
            if let (Some(gone), Some(Some(next))) = (gone, signal.levels.get_mut(at)) {
                next.low = next.low.min(gone.low);
                next.high = next.high.max(gone.high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SignalKey {
        SignalKey::Container("app.cache".to_owned(), "dict".to_owned())
    }

    fn read(family: &mut Family, second: u64, value: Option<f64>) {
        let levels = value
            .map(|value| (key(), Level::of(value, None), About::default()))
            .into_iter()
            .collect();
        family.push(
            Nanos(second * 1_000_000_000),
            Counts::default(),
            levels,
            true,
        );
    }

    #[test]
    fn old_times_are_thinned_out_and_extremes_stay() {
        let mut family = Family::default();
        for second in 1..=1_000 {
            let value = if second == 100 {
                5_000.0
            } else {
                second as f64
            };
            read(&mut family, second, Some(value));
        }
        assert_eq!(family.ticks().len(), MOST_TICKS);
        let signal = family.get(&key()).unwrap();
        let high = signal
            .levels
            .iter()
            .flatten()
            .map(|l| l.high)
            .fold(0.0, f64::max);
        assert!((high - 5_000.0).abs() < 1e-9);
        assert_eq!(family.ticks()[0].at, Nanos(1_000_000_000));
    }

    #[test]
    fn what_is_missing_twice_is_gone() {
        let mut family = Family::default();
        read(&mut family, 0, Some(7.0));
        read(&mut family, 1, Some(70.0));
        read(&mut family, 2, None);
        assert_eq!(family.get(&key()).unwrap().levels[2], None);
        read(&mut family, 3, None);
        assert_eq!(
            family.get(&key()).unwrap().levels[3],
            Some(Level::default())
        );
        for second in 4..20 {
            read(&mut family, second, None);
        }
        assert!(family.get(&key()).is_none());
    }
}
