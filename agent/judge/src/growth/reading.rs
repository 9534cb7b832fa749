//! One snapshot, summed per series and cohort.

use std::collections::BTreeMap;

use crate::attribution::keys::Class;
use crate::attribution::sites::LeadingFrameId;
use crate::attribution::{Attribution, Origin, Owner};
use crate::events::{Binding, LiveGroup, MemoryKind, RequestId, SiteId, Snapshot};

use super::epochs::Epochs;
use super::keys::SeriesKey;

/// Size classes kept per series. A series with more has no typical size.
const MOST_SIZES: usize = 64;
/// Sites kept per series, the biggest.
pub const MOST_SITES: usize = 12;
/// A request that holds more than this many times the median request of its series holds the container
/// itself, such as the table of a hash map. The table is freed when the next one is allocated. If it were
/// counted in full, each doubling would look like an eviction of half of the series. So it counts as the median.
pub const OUTLIER: f64 = 16.0;
/// The same while there are few requests, because the table is small then.
const OUTLIER_OF_FEW: f64 = 4.0;
/// From this number of requests on, [`OUTLIER`] applies.
const MANY: usize = 20;
/// Minimum size of a table, bytes.
const LEAST_TABLE: f64 = 4.0 * 1024.0;
/// Maximum number of top sites.
const TOP_SITES: usize = 20;
/// Maximum number of series of requests in flight; the biggest are kept.
const MOST_IMMATURE: usize = 32;

/// Mature memory of one cohort of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CohortNow {
    /// Bytes. A request with more than [`OUTLIER`] times the median counts as the median.
    pub bytes: f64,
    /// Distinct requests with a block in it. For background memory: sampled blocks.
    pub holders: u32,
}

/// Mature memory of one class, over all cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassNow {
    /// Bytes. A request with more than [`OUTLIER`] times the median counts as the median, so a table that one request
    /// doubled does not raise the bytes per request.
    pub bytes: f64,
    /// Sum over holders of their squared bytes, for the variance between requests.
    pub squares: f64,
    /// Variance that sampling adds to `bytes`.
    pub variance: f64,
    /// Distinct requests.
    pub holders: u64,
}

/// Mature memory of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesNow {
    /// By epoch and class.
    pub cohorts: BTreeMap<(usize, usize), CohortNow>,
    /// By class.
    pub classes: [ClassNow; Class::COUNT],
    /// Bytes, outliers in full.
    pub held: f64,
    /// Blocks.
    pub blocks: f64,
    /// Bytes whose binding is exact.
    pub exact_bytes: f64,
    /// The biggest sites, biggest first.
    pub sites: Vec<(SiteId, f64)>,
    /// Blocks by size class.
    pub sizes: Sizes,
}

/// Blocks and bytes by size class.
pub type Sizes = BTreeMap<u32, SizeNow>;

/// Blocks of one size class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SizeNow {
    /// Blocks.
    pub blocks: f64,
    /// Bytes.
    pub bytes: f64,
}

/// Totals of the last snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Live heap bytes, mature or not.
    pub live_bytes: f64,
    /// Live heap blocks.
    pub live_blocks: f64,
    /// Mature heap bytes.
    pub mature_bytes: f64,
    /// Highest live heap bytes of any snapshot.
    pub peak_live_bytes: f64,
    /// Variance that sampling adds to `live_bytes`.
    pub variance: f64,
}

/// A summed snapshot.
#[derive(Debug, Default)]
pub struct Reading {
    /// Mature memory per series.
    pub series: BTreeMap<SeriesKey, SeriesNow>,
    /// Memory that is not mature, the biggest first.
    pub immature: Vec<(SeriesKey, f64)>,
    /// Leading frames by live bytes.
    pub top_sites: Vec<(LeadingFrameId, f64, f64)>,
    /// Totals.
    pub totals: Totals,
    /// Leading frames most of whose bytes are in one block.
    pub biggest: Vec<(LeadingFrameId, Biggest)>,
    /// Requests that blocks refer to, sorted.
    pub named: Vec<RequestId>,
}

/// The largest block of a leading frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Biggest {
    /// Its bytes.
    pub bytes: f64,
    /// Where it was allocated.
    pub site: SiteId,
    /// For which request.
    pub request: Option<RequestId>,
}

/// Totals of the live blocks of one leading frame.
#[derive(Default)]
struct LeadingTotals {
    bytes: f64,
    blocks: f64,
    biggest: Biggest,
}

/// A mature group in sort order: series, class, epoch, request, index of the group.
type Row = (SeriesKey, usize, usize, Option<RequestId>, usize);

impl Reading {
    /// Sums `snapshot`. Its time is the end of the last of `epochs`.
    pub fn new(snapshot: &Snapshot, epochs: &Epochs, attribution: &Attribution) -> Self {
        let mut reading = Self::default();
        let mut rows: Vec<Row> = Vec::new();
        let mut immature: BTreeMap<SeriesKey, f64> = BTreeMap::new();
        let mut leading_frames: BTreeMap<LeadingFrameId, LeadingTotals> = BTreeMap::new();
        let mut named = Vec::new();
        for (index, group) in snapshot.groups.iter().enumerate() {
            if !is_sane(group) {
                continue;
            }
            named.extend(group.request);
            let leading = attribution.sites.leading(group.site);
            if group.kind == MemoryKind::Heap {
                reading.totals.live_bytes += group.bytes;
                reading.totals.live_blocks += group.blocks;
                reading.totals.variance += group.variance;
                let sum = leading_frames.entry(leading).or_default();
                sum.bytes += group.bytes;
                sum.blocks += group.blocks;
                if group.seen == 1 && group.bytes > sum.biggest.bytes {
                    sum.biggest = Biggest {
                        bytes: group.bytes,
                        site: group.site,
                        request: group.request.filter(|_| group.binding != Binding::None),
                    };
                }
            }
            if !attribution.sites.judged(group.site, group.kind) {
                continue;
            }
            let Owner::Known(Origin {
                route,
                class,
                mature_at,
            }) = attribution.owner(group, snapshot.at)
            else {
                continue;
            };
            let key = SeriesKey {
                route,
                leading,
                kind: group.kind,
            };
            match epochs.of(mature_at) {
                Some(epoch) => rows.push((key, class.index(), epoch, group.request, index)),
                None => *immature.entry(key).or_default() += group.bytes,
            }
        }
        reading.named = sorted(named);
        let is_one = |now: &LeadingTotals| {
            now.biggest.bytes >= LEAST_TABLE && now.biggest.bytes >= now.bytes / 2.0
        };
        reading.biggest = leading_frames
            .iter()
            .filter(|(_, now)| is_one(now))
            .map(|(leading, now)| (*leading, now.biggest))
            .collect();
        reading.top_sites = top(leading_frames
            .into_iter()
            .map(|(l, now)| (l, now.bytes, now.blocks))
            .collect());
        reading.immature = immature.into_iter().collect();
        reading.immature.sort_by(|a, b| b.1.total_cmp(&a.1));
        reading.immature.truncate(MOST_IMMATURE);
        rows.sort_unstable();
        reading.add(&rows, &snapshot.groups);
        reading
    }

    fn add(&mut self, rows: &[Row], groups: &[LiveGroup]) {
        for rows in rows.chunk_by(|a, b| a.0 == b.0) {
            let key = rows[0].0;
            let mut now = SeriesNow::default();
            let mut sites: BTreeMap<SiteId, f64> = BTreeMap::new();
            let (median, outlier) = typical(rows, groups);
            for holder in rows.chunk_by(|a, b| (a.1, a.2, a.3) == (b.1, b.2, b.3)) {
                let (_, class, epoch, request, _) = holder[0];
                let mut bytes = 0.0;
                let mut blocks = 0.0;
                let mut seen = 0;
                for group in holder.iter().map(|row| &groups[row.4]) {
                    bytes += group.bytes;
                    blocks += group.blocks;
                    seen += group.seen;
                    now.classes[class].variance += group.variance;
                    if group.binding == Binding::Exact {
                        now.exact_bytes += group.bytes;
                    }
                    *sites.entry(group.site).or_default() += group.bytes;
                    if now.sizes.len() < MOST_SIZES || now.sizes.contains_key(&group.size) {
                        let size = now.sizes.entry(group.size).or_default();
                        size.blocks += group.blocks;
                        size.bytes += group.bytes;
                    }
                }
                now.blocks += blocks;
                // Without a request each sampled block counts as one holder, whatever its sampling weight.
                let holders = if request.is_some() { 1 } else { seen.max(1) };
                now.held += bytes;
                if request.is_some() && bytes > outlier {
                    bytes = median;
                }
                let cohort = now.cohorts.entry((epoch, class)).or_default();
                cohort.bytes += bytes;
                cohort.holders += holders;
                let sum = &mut now.classes[class];
                sum.bytes += bytes;
                sum.squares += bytes * bytes / f64::from(holders);
                sum.holders += u64::from(holders);
            }
            if key.kind == MemoryKind::Heap {
                self.totals.mature_bytes += now.held;
            }
            now.sites = sites.into_iter().collect();
            now.sites.sort_by(|a, b| b.1.total_cmp(&a.1));
            now.sites.truncate(MOST_SITES);
            self.series.insert(key, now);
        }
    }
}

/// The lower median of the requests, and how much makes a request an outlier. Infinite without requests.
fn typical(rows: &[Row], groups: &[LiveGroup]) -> (f64, f64) {
    let mut each: Vec<f64> = rows
        .chunk_by(|a, b| (a.1, a.2, a.3) == (b.1, b.2, b.3))
        .filter(|holder| holder[0].3.is_some())
        .map(|holder| holder.iter().map(|row| groups[row.4].bytes).sum())
        .collect();
    let Some(middle) = each.len().checked_sub(1).map(|last| last / 2) else {
        return (f64::INFINITY, f64::INFINITY);
    };
    if each.len() == 1 {
        // Without a second request to compare with, it is not known whether it holds a table.
        return (0.0, 0.0);
    }
    let factor = if each.len() < MANY {
        OUTLIER_OF_FEW
    } else {
        OUTLIER
    };
    let (_, median, _) = each.select_nth_unstable_by(middle, f64::total_cmp);
    (*median, *median * factor)
}

/// Whether the figures of a group are finite and not negative.
fn is_sane(group: &LiveGroup) -> bool {
    [group.bytes, group.blocks, group.variance]
        .iter()
        .all(|n| n.is_finite() && *n >= 0.0)
}

fn top(mut leading_frames: Vec<(LeadingFrameId, f64, f64)>) -> Vec<(LeadingFrameId, f64, f64)> {
    leading_frames.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    leading_frames.truncate(TOP_SITES);
    leading_frames
}

/// Sorts and removes duplicates.
fn sorted(mut ids: Vec<RequestId>) -> Vec<RequestId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
