//! How many requests of each route and token class had ended at any time a gauge was read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::attribution::routes::RouteId;
use crate::attribution::tokens::Class;
use crate::events::Nanos;

/// Requests that are kept one by one at most.
const MOST_RECENT: usize = 65_536;
/// For so long: a reading may tell of a time that is past by then.
const RECENT_SECONDS: f64 = 20.0;

/// What had come of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteCounts {
    /// Requests by token class.
    pub classes: [f64; Class::COUNT],
    /// Bytes of bodies.
    pub body_bytes: f64,
}

impl RouteCounts {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut out = *self;
        for (now, before) in out.classes.iter_mut().zip(earlier.classes) {
            *now -= before;
        }
        out.body_bytes -= earlier.body_bytes;
        out
    }

    /// Adds another route's.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.classes.iter_mut().zip(other.classes) {
            *sum += part;
        }
        self.body_bytes += other.body_bytes;
    }

    /// All requests.
    pub fn requests(&self) -> f64 {
        self.classes.iter().sum()
    }
}

/// Totals by route, from the beginning on.
pub type Counts = Arc<[RouteCounts]>;

/// Counts requests in the order of their ends.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    totals: Vec<RouteCounts>,
    /// Ended lately, perhaps later than what a reading tells of.
    recent: VecDeque<(Nanos, RouteId, Class, u64)>,
}

impl Clock {
    /// A request ended.
    pub fn request(&mut self, end: Nanos, route: RouteId, class: Class, body_bytes: u64) {
        let old = |oldest: &(Nanos, RouteId, Class, u64)| end.since(oldest.0) > RECENT_SECONDS;
        while let Some(oldest) = self.recent.front().copied()
            && (old(&oldest) || self.recent.len() >= MOST_RECENT)
        {
            self.recent.pop_front();
            count(&mut self.totals, oldest);
        }
        self.recent.push_back((end, route, class, body_bytes));
    }

    /// The totals at `at`, which lies in the last [`RECENT_SECONDS`].
    pub fn at(&self, at: Nanos) -> Counts {
        let mut totals = self.totals.clone();
        for one in self.recent.iter().filter(|one| one.0 <= at) {
            count(&mut totals, *one);
        }
        totals.into()
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
            totals.as_slice().into()
        });
        counts.collect()
    }

    /// Bytes of state, estimated.
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

    #[test]
    fn requests_count_at_their_end_however_late_their_record_comes() {
        let mut clock = Clock::default();
        let route = RouteId(3);
        clock.request(Nanos(30), route, Class::New, 7);
        clock.request(Nanos(10), route, Class::Repeat, 5);
        let early = clock.at(Nanos(20));
        assert_eq!(early[3].classes.map(|n| n as u64), [0, 0, 1, 0]);
        let late = clock.at(Nanos(30));
        assert_eq!(clock.at(Nanos(20)), early, "asked for again");
        assert_eq!(
            clock.at_each(&[Nanos(20), Nanos(30)]),
            [early.clone(), late.clone()]
        );
        let between = late[3].since(&early[3]);
        assert_eq!(between.classes.map(|n| n as u64), [1, 0, 0, 0]);
        assert!((between.body_bytes - 7.0).abs() < 1e-9);
    }
}
