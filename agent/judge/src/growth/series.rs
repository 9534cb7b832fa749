//! One series: its cohorts, evictions and floors, epoch by epoch.

use crate::attribution::keys::Class;
use crate::events::SiteId;

use super::epochs::Epochs;
use super::reading::{ClassNow, SeriesNow, Sizes};

/// Bins for the age at eviction, in powers of two of seconds. The last bin takes all greater ages.
pub const AGE_BINS: usize = 20;

/// Minimum part of all matured bytes that must have been at risk in a bin for the bin to count.
const ENOUGH_AT_RISK: f64 = 0.05;

/// The memory of one token class that became mature in one epoch. `f32` saves space; it is exact to 64
/// bytes in a gigabyte.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cohort {
    /// Bytes that matured.
    pub matured: f32,
    /// Bytes of those that are live.
    pub live: f32,
    /// Requests (background: blocks) with bytes that matured.
    pub holders: u32,
    /// Of those, with bytes that are live.
    pub alive: u32,
}

/// A series in one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epoch {
    /// Least mature bytes at any snapshot in it.
    pub floor: f64,
    /// Most mature bytes at any snapshot in it.
    pub peak: f64,
    /// Mature bytes at its end.
    pub end: f64,
    /// Bytes of any cohort evicted in it.
    pub evicted: f64,
    /// Bytes of blocks from before the observation that were freed in it and are taken to be this series': see
    /// [`super::returns`].
    pub returned: f64,
    /// Bytes of this series for which blocks of other sizes from before the observation were freed in it.
    pub balanced: f64,
    /// By token class.
    pub cohorts: [Cohort; Class::COUNT],
}

impl Epoch {
    /// Bytes that matured in it.
    pub fn matured(&self) -> f64 {
        self.cohorts.iter().map(|c| f64::from(c.matured)).sum()
    }
    /// Bytes of those that are live.
    pub fn live(&self) -> f64 {
        self.cohorts.iter().map(|c| f64::from(c.live)).sum()
    }
    /// Requests with bytes that matured in it.
    pub fn holders(&self) -> f64 {
        self.cohorts.iter().map(|c| f64::from(c.holders)).sum()
    }
    /// Requests of those with live bytes.
    pub fn alive(&self) -> f64 {
        self.cohorts.iter().map(|c| f64::from(c.alive)).sum()
    }
}

/// A series.
#[derive(Clone, Debug)]
pub struct Series {
    /// One entry per shared epoch.
    pub epochs: Vec<Epoch>,
    /// Totals of the last snapshot by token class.
    pub classes: [ClassNow; Class::COUNT],
    /// Mature bytes now, outliers in full.
    pub held: f64,
    /// Mature blocks now.
    pub blocks: f64,
    /// Bytes with an exact binding now.
    pub exact_bytes: f64,
    /// Biggest sites now.
    pub sites: Vec<(SiteId, f64)>,
    /// Mature blocks now by their size class.
    pub sizes: Sizes,
    /// Bytes that ever matured.
    pub matured_bytes: f64,
    /// Bytes of those that were freed.
    pub evicted_bytes: f64,
    /// Evicted bytes by age since maturity.
    pub deaths: [f32; AGE_BINS],
    /// Byte-seconds at risk by age since maturity.
    pub at_risk: [f32; AGE_BINS],
}

impl Series {
    /// A series that begins after `epochs` empty epochs.
    pub fn new(epochs: usize) -> Self {
        Self {
            epochs: vec![Epoch::default(); epochs],
            classes: [ClassNow::default(); Class::COUNT],
            held: 0.0,
            blocks: 0.0,
            exact_bytes: 0.0,
            sites: Vec::new(),
            sizes: Sizes::new(),
            matured_bytes: 0.0,
            evicted_bytes: 0.0,
            deaths: [0.0; AGE_BINS],
            at_risk: [0.0; AGE_BINS],
        }
    }

    /// Mature bytes now.
    pub fn live_bytes(&self) -> f64 {
        self.held
    }

    /// Variance that sampling leaves in them.
    pub fn variance(&self) -> f64 {
        self.classes.iter().map(|class| class.variance).sum()
    }

    /// Mature bytes now of blocks that hold the container itself, such as the table of a hash map.
    pub fn container_bytes(&self) -> f64 {
        let requests: f64 = self.classes.iter().map(|class| class.bytes).sum();
        (self.held - requests).max(0.0)
    }

    /// The part of matured memory that survives up to an age, and that age in seconds: the Kaplan-Meier
    /// estimate with a constant hazard within each bin. It ends at the last age with enough memory at risk.
    /// Younger memory is censored, so growth does not bias the estimate.
    pub fn survival(&self) -> Option<(f64, f64)> {
        let (mut age, mut hazard) = (0.0, 0.0);
        for (bin, (deaths, at_risk)) in self.deaths.iter().zip(self.at_risk).enumerate() {
            let end = 2f64.powi(bin as i32 + 1);
            if f64::from(at_risk) < ENOUGH_AT_RISK * self.matured_bytes * (end - age) {
                break;
            }
            hazard += f64::from(*deaths) / f64::from(at_risk) * (end - age);
            age = end;
        }
        (age > 0.0).then(|| ((-hazard).exp(), age))
    }

    /// Takes its part of a snapshot (`None`: none of it is live). The snapshot ends a new epoch.
    pub fn take(&mut self, now: Option<&SeriesNow>, epochs: &Epochs) {
        self.epochs.push(Epoch::default());
        let last = self.epochs.len() - 1;
        let mut evicted = 0.0;
        let step = epochs.seconds(last) as f32;
        for (index, epoch) in self.epochs.iter_mut().enumerate() {
            for (class, cohort) in epoch.cohorts.iter_mut().enumerate() {
                let seen = now.and_then(|now| now.cohorts.get(&(index, class)));
                let (live, alive) = seen.map_or((0.0, 0), |c| (c.bytes as f32, c.holders));
                let age = epochs.now().since(epochs.end(index));
                let bin = (age.max(1.0).log2() as usize).min(AGE_BINS - 1);
                self.at_risk[bin] += cohort.live * step;
                if live >= cohort.live {
                    // The cohort is new; later this happens only if an earlier snapshot had missed blocks.
                    let more = live - cohort.live;
                    cohort.matured += more;
                    self.matured_bytes += f64::from(more);
                } else {
                    let gone = cohort.live - live;
                    evicted += f64::from(gone);
                    self.deaths[bin] += gone;
                }
                cohort.live = live;
                cohort.alive = alive;
                cohort.holders = cohort.holders.max(alive);
            }
        }
        self.evicted_bytes += evicted;
        let live: f64 = now.map_or(0.0, |now| now.cohorts.values().map(|c| c.bytes).sum());
        self.held = now.map_or(0.0, |now| now.held);
        let epoch = &mut self.epochs[last];
        epoch.floor = live;
        epoch.peak = live;
        epoch.end = live;
        epoch.evicted = evicted;
        self.classes = now.map_or_else(Default::default, |now| now.classes);
        self.blocks = now.map_or(0.0, |now| now.blocks);
        self.exact_bytes = now.map_or(0.0, |now| now.exact_bytes);
        self.sites.clear();
        self.sites.extend(now.iter().flat_map(|now| &now.sites));
        self.sizes = now.map_or_else(Sizes::new, |now| now.sizes.clone());
    }

    /// Merges the successor of epoch `at` into it.
    pub fn merge_epochs(&mut self, at: usize) {
        if at + 1 >= self.epochs.len() {
            return;
        }
        let later = self.epochs.remove(at + 1);
        let epoch = &mut self.epochs[at];
        epoch.floor = epoch.floor.min(later.floor);
        epoch.peak = epoch.peak.max(later.peak);
        epoch.end = later.end;
        epoch.evicted += later.evicted;
        epoch.returned += later.returned;
        epoch.balanced += later.balanced;
        add_cohorts(&mut epoch.cohorts, &later.cohorts);
    }

    /// Adds another series of the same epochs, whose route was merged into this one's.
    pub fn absorb(&mut self, other: &Self) {
        for (epoch, part) in self.epochs.iter_mut().zip(&other.epochs) {
            epoch.floor += part.floor;
            epoch.peak += part.peak;
            epoch.end += part.end;
            epoch.evicted += part.evicted;
            epoch.returned += part.returned;
            epoch.balanced += part.balanced;
            add_cohorts(&mut epoch.cohorts, &part.cohorts);
        }
        self.held += other.held;
        self.matured_bytes += other.matured_bytes;
        self.evicted_bytes += other.evicted_bytes;
        for (sum, part) in self.deaths.iter_mut().zip(other.deaths) {
            *sum += part;
        }
        for (sum, part) in self.at_risk.iter_mut().zip(other.at_risk) {
            *sum += part;
        }
    }
}

fn add_cohorts(into: &mut [Cohort; Class::COUNT], from: &[Cohort; Class::COUNT]) {
    for (sum, part) in into.iter_mut().zip(from) {
        sum.matured += part.matured;
        sum.live += part.live;
        sum.holders += part.holders;
        sum.alive += part.alive;
    }
}
