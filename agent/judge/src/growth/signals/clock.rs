//! Number of ended requests by route and token class, at the times of readings.
//!
//! While requests are not traced, each route and class is assumed to have the rate of the previous window. The
//! duration of such pauses is recorded, because assumed requests are not evidence of the cause of growth.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::events::Nanos;

/// Maximum number of individual requests.
const MOST_RECENT: usize = 65_536;
/// Seconds for which they are kept: a reading may arrive after its time.
const RECENT_SECONDS: f64 = 20.0;

/// A shorter pause does not make the requests of an interval assumed ones.
const ASSUMED_SECONDS: f64 = 0.1;

/// Totals of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteCounts {
    /// Requests by token class.
    pub classes: [f64; Class::COUNT],
    /// Bytes of bodies.
    pub body_bytes: f64,
}

impl RouteCounts {
    /// The difference to `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut out = *self;
        for (now, before) in out.classes.iter_mut().zip(earlier.classes) {
            *now -= before;
        }
        out.body_bytes -= earlier.body_bytes;
        out
    }

    /// Adds the totals of another route.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.classes.iter_mut().zip(other.classes) {
            *sum += part;
        }
        self.body_bytes += other.body_bytes;
    }

    /// Adds `times` the totals of another route.
    fn add_times(&mut self, other: &Self, times: f64) {
        for (sum, part) in self.classes.iter_mut().zip(other.classes) {
            *sum += part * times;
        }
        self.body_bytes += other.body_bytes * times;
    }

    /// All requests.
    pub fn requests(&self) -> f64 {
        self.classes.iter().sum()
    }
}

/// Totals since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// By route.
    pub routes: Arc<[RouteCounts]>,
    /// Seconds during which requests were not traced, but assumed.
    pub assumed_seconds: f64,
}

impl Counts {
    /// Whether requests since `earlier` are assumed at least in part.
    pub fn is_assumed_since(&self, earlier: &Self) -> bool {
        self.assumed_seconds - earlier.assumed_seconds > ASSUMED_SECONDS
    }
}

/// Counts requests at the times of their ends.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    totals: Vec<RouteCounts>,
    /// Recently ended requests. A reading may be older than some of them.
    recent: VecDeque<(Nanos, RouteId, Class, u64)>,
    /// Start of this window of request tracing, and the totals at that time.
    began: Option<(Nanos, Counts)>,
    /// The last pause of request tracing. Earlier pauses are in `totals`.
    gap: Option<Gap>,
    /// Seconds of the pauses before the last one.
    earlier_gaps: f64,
}

/// A pause: requests are not traced, or their token classes are not known yet.
#[derive(Clone, Debug)]
struct Gap {
    since: Nanos,
    /// `None`: the pause continues.
    until: Option<Nanos>,
    /// Requests per second.
    rates: Vec<RouteCounts>,
}

impl Gap {
    fn has(&self, at: Nanos) -> bool {
        at > self.since && self.until.is_none_or(|until| at <= until)
    }

    /// Its seconds up to `at`.
    fn seconds(&self, at: Nanos) -> f64 {
        let until = self.until.map_or(at, |until| until.min(at));
        until.since(self.since)
    }

    /// Adds the assumed requests up to `at`.
    fn add_to(&self, totals: &mut Vec<RouteCounts>, at: Nanos) {
        let seconds = self.seconds(at);
        if totals.len() < self.rates.len() {
            totals.resize(self.rates.len(), RouteCounts::default());
        }
        for (sum, rate) in totals.iter_mut().zip(&self.rates) {
            sum.add_times(rate, seconds);
        }
    }
}

impl Clock {
    /// A request ended.
    pub fn request(&mut self, end: Nanos, route: RouteId, class: Class, body_bytes: u64) {
        if self.gap.as_ref().is_some_and(|gap| gap.has(end)) {
            return;
        }
        let old = |oldest: &(Nanos, RouteId, Class, u64)| end.since(oldest.0) > RECENT_SECONDS;
        while let Some(oldest) = self.recent.front().copied()
            && (old(&oldest) || self.recent.len() >= MOST_RECENT)
        {
            self.recent.pop_front();
            count(&mut self.totals, oldest);
        }
        self.recent.push_back((end, route, class, body_bytes));
        if self.began.is_none() {
            self.began = Some((end, self.at(end)));
        }
    }

    /// Requests are no longer traced.
    pub fn blind(&mut self, at: Nanos) {
        let totals = self.at(at).routes;
        let mut rates = vec![RouteCounts::default(); totals.len()];
        if let Some((began, before)) = self.began.take() {
            let seconds = at.since(began).max(1.0);
            for (index, (rate, now)) in rates.iter_mut().zip(totals.iter()).enumerate() {
                let before = before.routes.get(index).copied().unwrap_or_default();
                rate.add_times(&now.since(&before), 1.0 / seconds);
            }
        } else if let Some(gap) = &self.gap {
            // No request was traced since.
            rates.clone_from(&gap.rates);
        }
        if let Some(gap) = self.gap.take() {
            gap.add_to(&mut self.totals, at);
            self.earlier_gaps += gap.seconds(at);
        }
        // The recent requests stay: readings from before the pause may still come.
        self.gap = Some(Gap {
            since: at,
            until: None,
            rates,
        });
    }

    /// Requests are traced, and their token classes known, from `at` on.
    pub fn seen(&mut self, at: Nanos) {
        if let Some(gap) = &mut self.gap {
            gap.until = Some(at);
            self.began = None;
            self.began = Some((at, self.at(at)));
        }
    }

    /// Whether requests were traced at `at`.
    pub fn saw(&self, at: Nanos) -> bool {
        self.gap.as_ref().is_none_or(|gap| !gap.has(at))
    }

    /// The totals at `at`, which is within the last [`RECENT_SECONDS`].
    pub fn at(&self, at: Nanos) -> Counts {
        let mut totals = self.totals.clone();
        for one in self.recent.iter().filter(|one| one.0 <= at) {
            count(&mut totals, *one);
        }
        self.with_gap(totals, at)
    }

    /// Adds the assumed requests up to `at` to the totals of the traced ones.
    fn with_gap(&self, mut totals: Vec<RouteCounts>, at: Nanos) -> Counts {
        let mut assumed_seconds = self.earlier_gaps;
        if let Some(gap) = &self.gap {
            gap.add_to(&mut totals, at);
            assumed_seconds += gap.seconds(at);
        }
        Counts {
            routes: totals.into(),
            assumed_seconds,
        }
    }

    /// The totals at each of these times, earliest first.
    pub fn at_each(&self, times: &[Nanos]) -> Vec<Counts> {
        let mut ends: Vec<_> = self.recent.iter().copied().collect();
        ends.sort_by_key(|one| one.0);
        let mut ends = ends.into_iter().peekable();
        let mut totals = self.totals.clone();
        let counts = times.iter().map(|at| {
            while let Some(one) = ends.next_if(|one| one.0 <= *at) {
                count(&mut totals, one);
            }
            self.with_gap(totals.clone(), *at)
        });
        counts.collect()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.recent.capacity() * size_of::<(Nanos, RouteId, Class, u64)>()
            + self.totals.len() * size_of::<RouteCounts>()
    }
}

fn count(totals: &mut Vec<RouteCounts>, (_, route, class, body): (Nanos, RouteId, Class, u64)) {
    let route = usize::from(route.0);
    if totals.len() <= route {
        totals.resize(route + 1, RouteCounts::default());
    }
    if let Some(counts) = totals.get_mut(route) {
        counts.classes[class.index()] += 1.0;
        counts.body_bytes += body as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of a route and class by the totals.
    fn requests(counts: &Counts, class: Class) -> f64 {
        counts.routes[3].classes[class.index()]
    }

    #[test]
    fn unseen_requests_are_taken_to_come_as_before() {
        let mut clock = Clock::default();
        let at = Nanos::from_seconds;
        for second in 0..=40 {
            clock.request(at(f64::from(second)), RouteId(3), Class::New, 10);
        }
        clock.blind(at(40.0));
        assert!(!clock.saw(at(50.0)) && clock.saw(at(40.0)));
        let near = |counts: &Counts, expected: f64| {
            let new = requests(counts, Class::New);
            assert!((new - expected).abs() < 1.1, "{new}, not {expected}");
            assert!((counts.routes[3].body_bytes - 10.0 * new).abs() < 1e-6);
        };
        near(&clock.at(at(30.0)), 31.0);
        let assumed = |clock: &Clock, second| clock.at(at(second)).assumed_seconds;
        assert!((assumed(&clock, 30.0), assumed(&clock, 100.0)) == (0.0, 60.0));
        near(&clock.at(at(100.0)), 101.0);
        clock.request(at(105.0), RouteId(3), Class::New, 10);
        near(&clock.at(at(110.0)), 111.0);
        clock.seen(at(120.0));
        clock.request(at(119.0), RouteId(3), Class::New, 10);
        assert!(clock.saw(at(121.0)));
        clock.request(at(125.0), RouteId(3), Class::Repeat, 0);
        let now = clock.at(at(126.0));
        near(&now, 121.0);
        assert!((requests(&now, Class::Repeat) - 1.0).abs() < 1e-9);
        let each = clock.at_each(&[at(100.0), at(126.0)]);
        near(&each[0], 101.0);
        near(&each[1], 121.0);
        // Another pause: the requests of the previous one are kept.
        clock.blind(at(140.0));
        let later = clock.at(at(160.0));
        assert!((later.assumed_seconds - 100.0).abs() < 1e-9);
        assert!((requests(&later, Class::New) - requests(&now, Class::New)).abs() < 1e-9);
        assert!((requests(&later, Class::Repeat) - 2.0).abs() < 0.1);
    }

    #[test]
    fn requests_count_at_their_end_however_late_their_record_comes() {
        let mut clock = Clock::default();
        let route = RouteId(3);
        clock.request(Nanos(30), route, Class::New, 7);
        clock.request(Nanos(10), route, Class::Repeat, 5);
        let early = clock.at(Nanos(20));
        assert_eq!(early.routes[3].classes.map(|n| n as u64), [0, 0, 1, 0]);
        let late = clock.at(Nanos(30));
        assert_eq!(clock.at(Nanos(20)), early, "asked for again");
        assert_eq!(
            clock.at_each(&[Nanos(20), Nanos(30)]),
            [early.clone(), late.clone()]
        );
        let between = late.routes[3].since(&early.routes[3]);
        assert_eq!(between.classes.map(|n| n as u64), [1, 0, 0, 0]);
        assert!((between.body_bytes - 7.0).abs() < 1e-9);
    }
}
