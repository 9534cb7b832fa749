//! The levels of a growth signal, with the requests that ended between them.

use std::collections::BTreeMap;

use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::attribution::routes::Routes;
use crate::events::Nanos;
use crate::growth::signals::SignalKey;
use crate::growth::signals::clock::{Counts, RouteCounts};
use crate::growth::signals::family::{Family, Level, Signal};
use crate::growth::signals::length_samples::LengthSamples;

/// Maximum number of routes for explanatory variables; the busiest are kept.
const MOST_ROUTES: usize = 16;

/// Kind of event of an explanatory variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Requests whose token is new on the route.
    New,
    /// Requests whose token is new anywhere.
    First,
    /// Requests whose token was used on the route before.
    Repeat,
    /// Requests with any token.
    Tokens,
    /// Requests without token.
    Anonymous,
    /// All requests.
    All,
    /// Bytes of request bodies.
    Body,
    /// Seconds, without requests.
    Seconds,
}

/// An explanatory variable: events of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// Route. `None`: all routes.
    pub route: Option<RouteId>,
    /// Kind of event.
    pub what: EventKind,
}

impl Variable {
    /// Time.
    pub const SECONDS: Self = Self {
        route: None,
        what: EventKind::Seconds,
    };

    /// Events of this kind on all routes.
    pub const fn anywhere(what: EventKind) -> Self {
        Self { route: None, what }
    }

    fn of(self, counts: &RouteCounts) -> f64 {
        let class = |class: Class| counts.classes[class.index()];
        match self.what {
            EventKind::New => class(Class::New) + class(Class::NewHere),
            EventKind::First => class(Class::New),
            EventKind::Repeat => class(Class::Repeat),
            EventKind::Tokens => class(Class::New) + class(Class::NewHere) + class(Class::Repeat),
            EventKind::Anonymous => class(Class::None),
            EventKind::All => counts.requests(),
            EventKind::Body => counts.body_bytes,
            EventKind::Seconds => 0.0,
        }
    }
}

/// A level and its time.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// When.
    pub at: Nanos,
    /// Level.
    pub level: Level,
}

/// The levels of one signal, oldest first, and the requests between them.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Levels.
    pub points: Vec<Point>,
    /// Requests between two levels, by route.
    steps: BTreeMap<RouteId, Vec<RouteCounts>>,
    /// The same for all routes.
    all: Vec<RouteCounts>,
    /// Whether the requests of a step were traced, not assumed.
    traced: Vec<bool>,
}

impl Curve {
    /// From a signal of `family`.
    pub fn new(family: &Family, signal: &Signal, routes: &Routes) -> Self {
        let read = family.ticks().iter().zip(&signal.levels);
        let read = read.filter_map(|(tick, level)| Some((tick.at, (*level)?, &tick.counts)));
        Self::of(read, routes)
    }

    /// From the length samples of a container.
    pub fn length_samples(
        length_samples: &LengthSamples,
        key: &SignalKey,
        routes: &Routes,
    ) -> Self {
        let samples = length_samples.of(key).into_iter();
        Self::of(
            samples.map(|(at, level, counts)| (at, Level::of(level, None), counts)),
            routes,
        )
    }

    /// From levels and the request totals at their times, oldest first.
    fn of<'a>(read: impl Iterator<Item = (Nanos, Level, &'a Counts)>, routes: &Routes) -> Self {
        let read: Vec<_> = read.collect();
        let points = read
            .iter()
            .map(|(at, level, _)| Point {
                at: *at,
                level: *level,
            })
            .collect();
        let mut steps: BTreeMap<RouteId, Vec<RouteCounts>> = BTreeMap::new();
        let intervals = read.len().saturating_sub(1);
        let mut all = vec![RouteCounts::default(); intervals];
        let mut traced = Vec::with_capacity(intervals);
        for (step, pair) in read.windows(2).enumerate() {
            let (before, now) = (pair[0].2, pair[1].2);
            traced.push(!now.is_assumed_since(before));
            for (index, counts) in now.routes.iter().enumerate() {
                let earlier = before.routes.get(index).copied().unwrap_or_default();
                let came = counts.since(&earlier);
                if came.requests() <= 0.0 {
                    continue;
                }
                let route = routes.resolve(RouteId(index as u16));
                steps
                    .entry(route)
                    .or_insert_with(|| vec![RouteCounts::default(); intervals])[step]
                    .add(&came);
                all[step].add(&came);
            }
        }
        if steps.len() > MOST_ROUTES {
            let busy = |steps: &[RouteCounts]| steps.iter().map(RouteCounts::requests).sum::<f64>();
            let mut order: Vec<(RouteId, f64)> =
                steps.iter().map(|(id, steps)| (*id, busy(steps))).collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (id, _) in order.split_off(MOST_ROUTES) {
                steps.remove(&id);
            }
        }
        Self {
            points,
            steps,
            all,
            traced,
        }
    }

    /// Number of levels.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The level at point `i`.
    pub fn value(&self, i: usize) -> f64 {
        self.points[i].level.value
    }

    /// Seconds between two points.
    pub fn seconds(&self, from: usize, to: usize) -> f64 {
        self.points[to].at.since(self.points[from].at)
    }

    /// Growth in each step of `from..to` (points).
    pub fn growth(&self, from: usize, to: usize) -> Vec<f64> {
        (from..to)
            .map(|i| self.value(i + 1) - self.value(i))
            .collect()
    }

    /// Events of `variable` in each step between the points `from` and `to`.
    pub fn events(&self, variable: Variable, from: usize, to: usize) -> Vec<f64> {
        match (variable.what, variable.route) {
            (EventKind::Seconds, _) => (from..to).map(|i| self.seconds(i, i + 1)).collect(),
            (_, None) => self.all[from..to].iter().map(|c| variable.of(c)).collect(),
            (_, Some(route)) => match self.steps.get(&route) {
                Some(steps) => steps[from..to].iter().map(|c| variable.of(c)).collect(),
                None => vec![0.0; to - from],
            },
        }
    }

    /// Events of `variable` between two points.
    pub fn total(&self, variable: Variable, from: usize, to: usize) -> f64 {
        self.events(variable, from, to).iter().sum()
    }

    /// Whether the requests between the points `step` and `step + 1` were traced, not assumed.
    pub fn is_traced(&self, step: usize) -> bool {
        self.traced.get(step).copied().unwrap_or(false)
    }

    /// Routes with requests.
    pub fn routes(&self) -> impl Iterator<Item = RouteId> {
        self.steps.keys().copied()
    }
}
