//! Other methods on the same observations. Each has a score, which is higher the more the data looks
//! like a leak. A baseline alarms if its score exceeds a threshold, the best one on the tuning family.

use std::collections::BTreeMap;

use heaptide_judge::events::{LiveGroup, MemorySample, RequestId, Snapshot};

/// Name and threshold of each baseline.
pub(crate) const BASELINES: [(&str, f64); 9] = [
    ("RSS slope (part of the headroom per hour)", 5.4),
    ("predict_linear, 10 m window, 4 h ahead", 20.0),
    ("the same, and used >= 60 % of the limit", 4.4),
    ("Mann-Kendall on live bytes (z)", 13.6),
    ("memleak: outstanding for 60 s (MiB of one stack)", 10.0),
    ("the same, as a part of the headroom", 0.026),
    ("Scalene's score", 0.976),
    ("Coroot's rule (part of the limit per hour)", 0.05),
    ("the same, best threshold", 0.05),
];
/// Seconds after the attach before a baseline may alarm.
const PATIENCE: f64 = 60.0;
/// Age in seconds from which an outstanding block is old.
const OLD: f64 = 60.0;
/// Window and horizon of `predict_linear`, seconds.
const WINDOW: f64 = 600.0;
const HORIZON: f64 = 4.0 * 3_600.0;
const MIB: f64 = 1_048_576.0;
/// Window of Coroot's rule in seconds, and the part of the slope with which the last quarter of it must still climb.
const HOUR: f64 = 3_600.0;
const CLIMBS: f64 = 0.3;

/// One snapshot, as seen by a baseline.
#[derive(Clone, Copy)]
struct Point {
    t: f64,
    used: f64,
    live: f64,
    old: f64,
}

/// Scalene's counts of a line.
#[derive(Clone, Copy, Default)]
struct Counts {
    taken: f64,
    freed: f64,
}

/// All baselines of one trace.
#[derive(Default)]
pub(crate) struct Baselines {
    points: Vec<Point>,
    used: f64,
    limit: f64,
    start: Option<f64>,
    peak: f64,
    tracked: Option<(u64, Option<RequestId>, u64)>,
    lines: BTreeMap<u64, Counts>,
    scalene: f64,
}

impl Baselines {
    pub(crate) fn memory(&mut self, sample: &MemorySample) {
        self.used = sample.used as f64;
        self.limit = sample.limit.unwrap_or(u64::MAX) as f64;
    }

    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        let start = *self.start.get_or_insert(snapshot.at.seconds());
        let mut old: BTreeMap<u64, f64> = BTreeMap::new();
        let mut live = 0.0;
        let mut newest: Option<&LiveGroup> = None;
        let mut tracked = false;
        for group in &snapshot.groups {
            live += group.bytes;
            if snapshot.at.since(group.born) >= OLD {
                *old.entry(group.site.0).or_default() += group.bytes;
            }
            tracked |= self.tracked == Some(identity(group));
            if newest.is_none_or(|newest| group.born > newest.born) {
                newest = Some(group);
            }
        }
        let point = Point {
            t: snapshot.at.seconds() - start,
            used: self.used,
            live,
            old: old.values().copied().fold(0.0, f64::max),
        };
        self.points.push(point);
        if live > self.peak {
            self.peak = live;
            self.sample(newest, tracked);
        }
        if point.t >= PATIENCE && live > 1.01 * self.points[0].live {
            self.scalene = self
                .lines
                .values()
                .map(Counts::score)
                .fold(self.scalene, f64::max);
        }
    }

    /// At a new peak Scalene samples the allocation that caused it, and checks the previous sample.
    fn sample(&mut self, newest: Option<&LiveGroup>, last_lives: bool) {
        if let Some((site, ..)) = self.tracked
            && !last_lives
        {
            self.lines.entry(site).or_default().freed += 1.0;
        }
        self.tracked = newest.map(identity);
        if let Some((site, ..)) = self.tracked {
            self.lines.entry(site).or_default().taken += 1.0;
        }
    }

    /// The highest score of each baseline at any time after [`PATIENCE`].
    pub(crate) fn scores(&self) -> [f64; BASELINES.len()] {
        let mut scores = [0.0; BASELINES.len()];
        let Some(first) = self.points.first() else {
            return scores;
        };
        let headroom = (self.limit - first.used).max(1.0);
        let mut from = 0;
        for (index, point) in self
            .points
            .iter()
            .enumerate()
            .filter(|(_, p)| p.t >= PATIENCE)
        {
            while self.points[from].t < point.t - WINDOW {
                from += 1;
            }
            let all = line(&self.points[..=index]);
            let recent = line(&self.points[from..=index]);
            let ahead = (recent.0 + recent.1 * (point.t + HORIZON) - first.used) / headroom;
            let coroot = coroot(&self.points[..=index]) / self.limit;
            let high = point.used >= 0.6 * self.limit;
            let level = if high { ahead } else { 0.0 };
            let now = [
                all.1 * 3_600.0 / headroom,
                ahead,
                level,
                0.0,
                point.old / MIB,
                point.old / headroom,
                0.0,
                coroot,
                coroot,
            ];
            for (score, now) in scores.iter_mut().zip(now) {
                *score = score.max(now);
            }
        }
        // quadratic, so only at ten times
        for tenth in 1..=10 {
            let part = &self.points[..self.points.len() * tenth / 10];
            if part.last().is_some_and(|point| point.t >= PATIENCE) {
                scores[3] = scores[3].max(mann_kendall(part));
            }
        }
        scores[6] = self.scalene;
        scores
    }
}

impl Counts {
    /// Laplace's rule of succession for "memory allocated here is never freed".
    fn score(&self) -> f64 {
        1.0 - (self.freed + 1.0) / (self.taken - self.freed + 2.0)
    }
}

fn identity(group: &LiveGroup) -> (u64, Option<RequestId>, u64) {
    (group.site.0, group.request, group.born.0)
}

/// Least squares of `used` over time: intercept and slope.
fn line(points: &[Point]) -> (f64, f64) {
    let n = points.len() as f64;
    let (t, y) = points
        .iter()
        .fold((0.0, 0.0), |sum, p| (sum.0 + p.t / n, sum.1 + p.used / n));
    let (mut tt, mut ty) = (0.0, 0.0);
    for point in points {
        tt += (point.t - t).powi(2);
        ty += (point.t - t) * (point.used - y);
    }
    let slope = if tt > 0.0 { ty / tt } else { 0.0 };
    (y - slope * t, slope)
}

/// Growth in bytes per hour by the leak rule of Coroot: a line through the last hour of used memory, from the last drop
/// by more than half on. 0: the last quarter does not climb.
fn coroot(points: &[Point]) -> f64 {
    let Some(last) = points.last() else {
        return 0.0;
    };
    let recent = points.partition_point(|point| point.t < last.t - HOUR);
    let drops = points
        .windows(2)
        .rposition(|pair| pair[1].used < 0.5 * pair[0].used);
    let points = &points[recent.max(drops.map_or(0, |before| before + 1))..];
    let slope = line(points).1;
    let quarter = line(&points[points.len() * 3 / 4..]).1;
    if slope > 0.0 && quarter >= CLIMBS * slope {
        slope * HOUR
    } else {
        0.0
    }
}

/// Test statistic for a monotonic trend of live bytes, over at most a hundred points.
fn mann_kendall(points: &[Point]) -> f64 {
    let step = points.len().div_ceil(100).max(1);
    let live: Vec<f64> = points
        .iter()
        .step_by(step)
        .map(|point| point.live)
        .collect();
    let n = live.len() as f64;
    if n < 4.0 {
        return 0.0;
    }
    let mut sum = 0.0;
    for (index, early) in live.iter().enumerate() {
        for late in &live[index + 1..] {
            sum += (late - early).signum();
        }
    }
    sum / (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points every 60 s.
    fn points(used: impl IntoIterator<Item = f64>) -> Vec<Point> {
        let used = used.into_iter().enumerate();
        used.map(|(minute, used)| Point {
            t: 60.0 * minute as f64,
            used,
            live: 0.0,
            old: 0.0,
        })
        .collect()
    }

    #[test]
    fn coroots_rule_wants_a_climb_that_goes_on() {
        let climbs = |minute: u32| 1_000.0 + f64::from(minute);
        let steady = coroot(&points((0..60).map(climbs)));
        assert!((steady - 60.0).abs() < 1e-6, "{steady}");
        let stopped = coroot(&points((0..60).map(|minute| climbs(minute.min(40)))));
        assert!(stopped.abs() < 1e-6, "{stopped}");
        // Only what follows a restart counts.
        let restarted = (0..60).map(|minute| if minute < 30 { 9_000.0 } else { climbs(minute) });
        let restarted = coroot(&points(restarted));
        assert!((restarted - 60.0).abs() < 1e-6, "{restarted}");
        // Only the last hour counts.
        let long = coroot(&points((0..200).map(|minute| climbs(minute.max(100)))));
        assert!((long - 60.0).abs() < 1e-6, "{long}");
    }
}
