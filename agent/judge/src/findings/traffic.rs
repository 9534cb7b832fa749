//! The least traffic of each route during the periods that the bound may rest on: the bound divided by it is the most
//! that one request could keep unseen. Pure.

use crate::attribution::keys::{Class, Map, RouteId};
use crate::growth::signals::SignalKey;
use crate::growth::signals::clock::RouteCounts;
use crate::growth::signals::family::Tick;

use super::inputs::Inputs;
use super::judge::Judge;

/// Requests of a route per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// All requests.
    pub requests: f64,
    /// Those with a token that is new on the route.
    pub new_tokens: f64,
}

impl Traffic {
    fn add(&mut self, counts: &RouteCounts) {
        self.requests += counts.requests();
        self.new_tokens +=
            counts.classes[Class::New.index()] + counts.classes[Class::NewHere.index()];
    }

    fn per(self, seconds: f64) -> Self {
        let seconds = seconds.max(1e-9);
        Self {
            requests: self.requests / seconds,
            new_tokens: self.new_tokens / seconds,
        }
    }

    fn least(self, other: Self) -> Self {
        Self {
            requests: self.requests.min(other.requests),
            new_tokens: self.new_tokens.min(other.new_tokens),
        }
    }
}

/// Parts of the observation. The process's memory is compared over one of the last three, see
/// [`process`](super::bound).
const PARTS: [(f64, f64); 5] = [
    (0.0, 1.0),
    (0.5, 1.0),
    (0.0, 0.75),
    (0.25, 0.8125),
    (0.5, 0.875),
];

impl Judge {
    /// By route. The bound rests on one of several parts of the observation, whichever gives the smallest bound. So the
    /// part with the fewest requests per second counts, with and without the time in which blocks could not be mature
    /// yet. Assumed requests do not count.
    pub fn least_traffic(&self, inputs: Inputs) -> Map<RouteId, Traffic> {
        let ticks = inputs.signals.family(&SignalKey::Process).ticks();
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
            return Map::default();
        };
        let all = last.at.since(first.at);
        let parts = PARTS.map(|(from, to)| (from * all, to * all));
        let mature = inputs.now.since(first.at) - self.options.maturity_seconds;
        let parts = parts.into_iter().chain([(0.0, mature.clamp(0.0, all))]);
        let rates: Vec<_> = parts
            .map(|(from, to)| {
                let within = |tick: &&Tick| {
                    let at = tick.at.since(first.at);
                    at >= from && at <= to
                };
                per_second(inputs, &ticks.iter().filter(within).collect::<Vec<_>>())
            })
            .collect();
        let ids = inputs.attribution.routes.iter().map(|(id, _)| id);
        ids.map(|id| {
            let of =
                |rates: &Vec<Traffic>| rates.get(usize::from(id.0)).copied().unwrap_or_default();
            let least = rates.iter().map(of).reduce(Traffic::least);
            let traced = self.traced(inputs, id);
            let all = least.into_iter().chain(traced);
            (id, all.reduce(Traffic::least).unwrap_or_default())
        })
        .collect()
    }

    /// Requests per second that matured while allocations were traced, in the last window: in all of it, and in its later
    /// half. Nothing if no allocation was traced.
    fn traced(&self, inputs: Inputs, id: RouteId) -> Vec<Traffic> {
        let (growth, epochs) = (inputs.growth, &inputs.growth.epochs);
        if !growth.sees_blocks() {
            return Vec::new();
        }
        let mature = epochs.start(0).plus(self.options.maturity_seconds);
        let half = mature.plus(epochs.now().since(mature) / 2.0);
        let over = |from| {
            let from = epochs.of(from)?;
            let mut sum = Traffic::default();
            for exposure in growth.exposures(id).iter().skip(from) {
                sum.add(&RouteCounts {
                    classes: exposure.map(|requests| requests as f64),
                    body_bytes: 0.0,
                });
            }
            Some(sum.per(epochs.now().since(epochs.start(from))))
        };
        [mature, half].into_iter().filter_map(over).collect()
    }
}

/// Traced requests per second between the first and the last of these times, by number of the route.
fn per_second(inputs: Inputs, ticks: &[&Tick]) -> Vec<Traffic> {
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
        return Vec::new();
    };
    let ids = (0..).map(RouteId).take(last.counts.routes.len());
    let resolved: Vec<usize> = ids
        .map(|id| usize::from(inputs.attribution.routes.resolve(id).0))
        .collect();
    let mut sums = vec![Traffic::default(); resolved.len()];
    for pair in ticks.windows(2) {
        let [before, after] = pair else { continue };
        if after.counts.is_assumed_since(&before.counts) {
            continue;
        }
        for (index, counts) in after.counts.routes.iter().enumerate() {
            let earlier = before.counts.routes.get(index).copied();
            let sum = resolved.get(index).and_then(|route| sums.get_mut(*route));
            if let Some(sum) = sum {
                sum.add(&counts.since(&earlier.unwrap_or_default()));
            }
        }
    }
    let seconds = last.at.since(first.at);
    sums.iter().map(|sum| sum.per(seconds)).collect()
}
