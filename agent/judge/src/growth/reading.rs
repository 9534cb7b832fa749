//! One snapshot, added up per series and cohort.

use std::collections::BTreeMap;

use crate::attribution::keys::Class;
use crate::attribution::sites::LeadingFrameId;
use crate::attribution::{Attribution, Origin, Owner};
use crate::events::{Binding, LiveGroup, MemoryKind, RequestId, SiteId, Snapshot};

use super::epochs::Epochs;
use super::keys::SeriesKey;

/// Sites kept per series, the biggest.
pub const MOST_SITES: usize = 12;
/// A request that holds more than this many times the median request of its series holds the container
/// itself: the table of a hash map that doubles, which is freed when the next one is there. Counted in
/// full, each doubling would look as if half of the series had been let go.
pub const OUTLIER: f64 = 16.0;
/// Requests that a median needs.
const LEAST_FOR_MEDIAN: usize = 20;
/// Bytes of a block below which it is no table worth following.
const LEAST_TABLE: f64 = 4.0 * 1024.0;
/// Rows of the top sites.
const TOP_SITES: usize = 20;
/// Series of requests under way that are kept, the biggest.
const MOST_IMMATURE: usize = 32;

/// Mature memory of one cohort of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CohortNow {
    /// Bytes; of each request at most [`OUTLIER`] times what the median request holds.
    pub bytes: f64,
    /// Distinct requests with a block in it; for background, blocks that were seen.
    pub holders: u32,
}

/// Mature memory of one class, over all cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassNow {
    /// Bytes; of each request at most [`OUTLIER`] times what the median request holds: what one more
    /// request keeps is not the table that one of them happened to double.
    pub bytes: f64,
    /// Sum over holders of the square of their bytes: the spread between requests.
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

/// A snapshot, added up.
#[derive(Debug, Default)]
pub struct Reading {
    /// Mature memory per series.
    pub series: BTreeMap<SeriesKey, SeriesNow>,
    /// Memory that is not mature, the biggest first.
    pub immature: Vec<(SeriesKey, f64)>,
    /// Leads by live bytes.
    pub top_sites: Vec<(LeadingFrameId, f64, f64)>,
    /// Totals.
    pub totals: Totals,
    /// Leads most of whose bytes lie in one block.
    pub biggest: Vec<(LeadingFrameId, Biggest)>,
    /// Requests that blocks name, sorted.
    pub named: Vec<RequestId>,
}

/// The largest block of a leading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Biggest {
    /// Its bytes.
    pub bytes: f64,
    /// Where it was allocated.
    pub site: SiteId,
    /// For which request.
    pub request: Option<RequestId>,
}

/// What live blocks of one leading add up to.
#[derive(Default)]
struct LeadingTotals {
    bytes: f64,
    blocks: f64,
    biggest: Biggest,
}

/// A mature group, ready to be sorted: `(series, class, epoch, request)` first.
type Row = (SeriesKey, usize, usize, Option<RequestId>, usize);

impl Reading {
    /// Adds up `snapshot`, whose time is the end of the last of `epochs`.
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
            let most = most_per_request(rows, groups);
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
                }
                now.blocks += blocks;
                // without a request each block that was seen is a witness; those it stands for are none
                let holders = if request.is_some() { 1 } else { seen.max(1) };
                now.held += bytes;
                if request.is_some() {
                    bytes = bytes.min(most);
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

/// What one request of a series may count for; infinite when there are too few to tell.
fn most_per_request(rows: &[Row], groups: &[LiveGroup]) -> f64 {
    let mut each: Vec<f64> = rows
        .chunk_by(|a, b| (a.1, a.2, a.3) == (b.1, b.2, b.3))
        .filter(|holder| holder[0].3.is_some())
        .map(|holder| holder.iter().map(|row| groups[row.4].bytes).sum())
        .collect();
    if each.len() < LEAST_FOR_MEDIAN {
        return f64::INFINITY;
    }
    let middle = each.len() / 2;
    let (_, median, _) = each.select_nth_unstable_by(middle, f64::total_cmp);
    *median * OUTLIER
}

/// Whether the figures of a group can be added without spoiling a sum.
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

/// Sorted and without doubles.
fn sorted(mut ids: Vec<RequestId>) -> Vec<RequestId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
