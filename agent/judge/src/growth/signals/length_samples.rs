//! Length samples: lengths of containers that are read many times a second, with the request totals at
//! their times. They show which requests add entries. The growth of a container is judged by its censuses.

use std::collections::{BTreeMap, VecDeque};

use crate::events::{Lengths, Nanos};

use super::clock::{Clock, Counts};
use super::key::SignalKey;

/// Maximum number of samples: half a minute.
const MOST: usize = 600;
/// Maximum number of containers.
const MOST_CONTAINERS: usize = 16;

/// The latest samples.
#[derive(Clone, Debug, Default)]
pub struct LengthSamples {
    ticks: VecDeque<(Nanos, Counts)>,
    lengths: BTreeMap<SignalKey, VecDeque<Option<f64>>>,
}

impl LengthSamples {
    /// Takes samples whose request records have arrived.
    pub fn take(&mut self, lengths: &Lengths, clock: &Clock) {
        let later = self.ticks.back().map_or(Nanos(0), |last| last.0);
        let times: Vec<Nanos> = lengths.ticks.iter().map(|tick| tick.0).collect();
        let keys: Vec<SignalKey> = lengths
            .containers
            .iter()
            .map(|(path, kind)| SignalKey::Container(path.clone(), kind.clone()))
            .collect();
        for (counts, (at, levels)) in clock.at_each(&times).into_iter().zip(&lengths.ticks) {
            if *at <= later {
                continue;
            }
            let before = self.ticks.len();
            self.ticks.push_back((*at, counts));
            for (key, level) in keys.iter().zip(levels) {
                if !self.lengths.contains_key(key) && self.lengths.len() >= MOST_CONTAINERS {
                    continue;
                }
                let row = self.lengths.entry(key.clone()).or_default();
                row.resize(before, None);
                row.push_back(Some(*level as f64));
            }
        }
        let spare = self.ticks.len().saturating_sub(MOST);
        self.ticks.drain(..spare);
        let ticks = self.ticks.len();
        for row in self.lengths.values_mut() {
            row.resize(ticks + spare, None);
            row.drain(..spare);
        }
        self.lengths
            .retain(|_, row| row.iter().any(Option::is_some));
    }

    /// Samples of one container.
    pub fn of(&self, key: &SignalKey) -> Vec<(Nanos, f64, &Counts)> {
        let row = self.lengths.get(key).into_iter().flatten();
        row.zip(&self.ticks)
            .filter_map(|(level, (at, counts))| Some((*at, (*level)?, counts)))
            .collect()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let routes = self
            .ticks
            .back()
            .map_or(0, |(_, counts)| counts.routes.len());
        let counts = routes * size_of::<super::clock::RouteCounts>();
        self.ticks.len() * (counts + 48) + self.lengths.len() * MOST * 16
    }
}
