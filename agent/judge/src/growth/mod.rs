//! Growth: from successive snapshots to cohorts, evictions and floors per series. Pure and bounded.
//!
//! A *cohort* is the memory that became mature in one epoch. Epochs are the intervals between snapshots;
//! old ones are merged; all series share them. After its epoch a cohort can only shrink. So the bytes that
//! are missing in the next snapshot were evicted, and no block has to be tracked individually.

pub mod epochs;
pub mod keys;
pub mod reading;
pub mod returns;
pub mod series;
pub mod signals;
pub mod tables;

use std::collections::BTreeMap;

use crate::attribution::Attribution;
use crate::attribution::keys::Class;
use crate::attribution::keys::Map;
use crate::attribution::keys::RouteId;
use crate::attribution::sites::LeadingFrameId;
use crate::events::{Nanos, Snapshot};

use self::epochs::{Epochs, MOST_EPOCHS};
pub use self::keys::{Exposure, SeriesKey};
use self::reading::{Reading, Totals};
use self::returns::Returns;
use self::series::Series;
use self::tables::Tables;

/// Maximum number of series. When it is reached, a series without live bytes is replaced; without one, the
/// new series is refused.
pub const MOST_SERIES: usize = 2_048;

/// A series with bytes that are not mature yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Immature {
    /// Its key.
    pub key: SeriesKey,
    /// Bytes now.
    pub bytes: f64,
    /// Peak bytes since it has been among the biggest.
    pub peak: f64,
}

/// All series of one target.
pub struct Growth {
    /// The epochs that all series share.
    pub epochs: Epochs,
    /// Totals of the last snapshot.
    pub totals: Totals,
    /// Blocks that are replaced by larger blocks.
    pub tables: Tables,
    returns: Returns,
    series: BTreeMap<SeriesKey, Series>,
    exposures: BTreeMap<RouteId, Vec<Exposure>>,
    immature: Vec<Immature>,
    top_sites: Vec<(LeadingFrameId, f64, f64)>,
    snapshots: u64,
    refused: u64,
}

impl Growth {
    /// Nothing seen yet; time begins at `start`.
    pub fn new(start: Nanos) -> Self {
        Self {
            epochs: Epochs::new(start),
            totals: Totals::default(),
            tables: Tables::default(),
            returns: Returns::default(),
            series: BTreeMap::new(),
            exposures: BTreeMap::new(),
            immature: Vec::new(),
            top_sites: Vec::new(),
            snapshots: 0,
            refused: 0,
        }
    }

    /// Takes a snapshot. One that is not later than the last is ignored.
    pub fn snapshot(&mut self, snapshot: &Snapshot, attribution: &mut Attribution) {
        for (from, into) in attribution.routes.take_merges() {
            self.merge_routes(from, into);
        }
        if !self.epochs.push(snapshot.at) {
            return;
        }
        self.snapshots += 1;
        for exposures in self.exposures.values_mut() {
            exposures.push([0; Class::COUNT]);
        }
        for entry in attribution.requests.matured(snapshot.at) {
            if entry.exposed {
                let route = attribution.routes.resolve(entry.route);
                let epochs = self.epochs.len();
                let exposures = self
                    .exposures
                    .entry(route)
                    .or_insert_with(|| vec![[0; Class::COUNT]; epochs]);
                if let Some(last) = exposures.last_mut() {
                    last[entry.class.index()] += 1;
                }
            }
        }
        let reading = Reading::new(snapshot, &self.epochs, attribution);
        self.take(&reading);
        let mature = self.epochs.start(0).plus(attribution.maturity_floor());
        self.returns.take(snapshot, mature);
        self.returns.divide(&mut self.series);
        self.tables.take(&reading.biggest, snapshot.at, attribution);
        attribution.requests.prune(&reading.named, snapshot.at);
        if let Some(at) = self.epochs.merge_if_full() {
            for series in self.series.values_mut() {
                series.merge_epochs(at);
            }
            self.returns.merge_epochs(at);
            for exposures in self.exposures.values_mut() {
                let later = exposures.remove(at + 1);
                for (sum, part) in exposures[at].iter_mut().zip(later) {
                    *sum += part;
                }
            }
        }
    }

    /// Forgets all blocks, because the address space was replaced. Requests and tokens are kept.
    pub fn forget(&mut self, at: Nanos) {
        *self = Self::new(at);
    }

    /// All series, in the order of their keys.
    pub fn series(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.series.iter()
    }

    /// One series.
    pub fn get(&self, key: &SeriesKey) -> Option<&Series> {
        self.series.get(key)
    }

    /// Requests of `route` that matured, per epoch; empty when there were none.
    pub fn exposures(&self, route: RouteId) -> &[Exposure] {
        self.exposures.get(&route).map_or(&[], Vec::as_slice)
    }

    /// The same of all routes.
    pub fn all_exposures(&self) -> impl Iterator<Item = &[Exposure]> {
        self.exposures.values().map(Vec::as_slice)
    }

    /// The series with most memory of requests in flight.
    pub fn immature(&self) -> &[Immature] {
        &self.immature
    }

    /// Leading frames by live bytes: `(leading frame, bytes, blocks)`, at most 20.
    pub fn top_sites(&self) -> &[(LeadingFrameId, f64, f64)] {
        &self.top_sites
    }

    /// Whether any live block was seen. Without allocator probes all snapshots are empty.
    pub fn sees_blocks(&self) -> bool {
        self.totals.peak_live_bytes > 0.0
    }

    /// Snapshots taken.
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// Series refused because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let per_series = MOST_EPOCHS * size_of::<series::Epoch>() + size_of::<Series>() + 400;
        self.series.len() * per_series + self.exposures.len() * MOST_EPOCHS * size_of::<Exposure>()
    }

    fn take(&mut self, reading: &Reading) {
        let peak = self.totals.peak_live_bytes.max(reading.totals.live_bytes);
        self.totals = Totals {
            peak_live_bytes: peak,
            ..reading.totals
        };
        self.top_sites.clone_from(&reading.top_sites);
        self.take_immature(&reading.immature);
        for key in reading.series.keys() {
            if !self.series.contains_key(key) && self.make_room() {
                self.series.insert(*key, Series::new(self.epochs.len() - 1));
            }
        }
        for (key, series) in &mut self.series {
            series.take(reading.series.get(key), &self.epochs);
        }
    }

    fn take_immature(&mut self, now: &[(SeriesKey, f64)]) {
        let before: Map<SeriesKey, f64> = self
            .immature
            .iter()
            .map(|one| (one.key, one.peak))
            .collect();
        self.immature = now
            .iter()
            .map(|&(key, bytes)| {
                let peak = before.get(&key).copied().unwrap_or(0.0).max(bytes);
                Immature { key, bytes, peak }
            })
            .collect();
    }

    fn make_room(&mut self) -> bool {
        if self.series.len() < MOST_SERIES {
            return true;
        }
        let idle = self
            .series
            .iter()
            .find(|(_, series)| series.live_bytes() <= 0.0);
        let Some(idle) = idle.map(|(key, _)| *key) else {
            self.refused += 1;
            return false;
        };
        self.series.remove(&idle);
        true
    }

    fn merge_routes(&mut self, from: RouteId, into: RouteId) {
        let moved: Vec<SeriesKey> = self
            .series
            .keys()
            .filter(|k| k.route == from)
            .copied()
            .collect();
        for key in moved {
            let Some(series) = self.series.remove(&key) else {
                continue;
            };
            let key = SeriesKey { route: into, ..key };
            match self.series.get_mut(&key) {
                Some(target) => target.absorb(&series),
                None => {
                    self.series.insert(key, series);
                }
            }
        }
        let Some(exposures) = self.exposures.remove(&from) else {
            return;
        };
        match self.exposures.get_mut(&into) {
            Some(target) => {
                for (sum, part) in target.iter_mut().flatten().zip(exposures.iter().flatten()) {
                    *sum += part;
                }
            }
            None => {
                self.exposures.insert(into, exposures);
            }
        }
    }
}
