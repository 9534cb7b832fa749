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

impl Judge {
    /// By route. The bound rests on the whole observation, its later half, or the traced allocations; which of them,
    /// depends on what gives the smallest bound. So the period with the fewest requests per second counts. Requests
    /// that are younger than the maturity age count as none, because what they keep could not be seen yet. So do
    /// assumed requests.
    pub fn least_traffic(&self, inputs: Inputs) -> Map<RouteId, Traffic> {
        let ticks = inputs.signals.family(&SignalKey::Process).ticks();
        let mut least = self.per_second(inputs, ticks);
        let later = self.per_second(inputs, &ticks[ticks.len() / 2..]);
        for (id, traffic) in &mut least {
            let later = later.get(id).copied().unwrap_or_default();
            *traffic = traffic.least(later);
            if let Some(traced) = self.traced(inputs, *id) {
                *traffic = traffic.least(traced);
            }
        }
        least
    }

    /// Traced requests per second of this period up to now that are mature now.
    fn per_second(&self, inputs: Inputs, period: &[Tick]) -> Map<RouteId, Traffic> {
        let mut sums: Map<RouteId, Traffic> = Map::default();
        let (Some(first), Some(last)) = (period.first(), period.last()) else {
            return sums;
        };
        let routes = &inputs.attribution.routes;
        let known = (0..).map(RouteId).take(last.counts.routes.len());
        // The route of each index, and the age at which its requests are mature.
        let known: Vec<(RouteId, f64)> = known
            .map(|id| {
                let id = routes.resolve(id);
                (
                    id,
                    routes
                        .maturity_seconds(id)
                        .max(self.options.maturity_seconds),
                )
            })
            .collect();
        for pair in period.windows(2) {
            let [before, after] = pair else { continue };
            if after.counts.is_assumed_since(&before.counts) {
                continue;
            }
            let age = inputs.now.since(after.at);
            for (index, counts) in after.counts.routes.iter().enumerate() {
                let earlier = before.counts.routes.get(index).copied().unwrap_or_default();
                if let Some((id, mature)) = known.get(index)
                    && age >= *mature
                {
                    sums.entry(*id).or_default().add(&counts.since(&earlier));
                }
            }
        }
        let seconds = inputs.now.since(first.at);
        for sum in sums.values_mut() {
            *sum = sum.per(seconds);
        }
        sums
    }

    /// Requests that matured while allocations were traced, in the last window. `None`: no allocation was.
    fn traced(&self, inputs: Inputs, id: RouteId) -> Option<Traffic> {
        let growth = inputs.growth;
        if !growth.sees_blocks() {
            return None;
        }
        let start = growth.epochs.start(0).plus(self.options.maturity_seconds);
        let seconds = growth.epochs.now().since(start);
        let mut sum = Traffic::default();
        for exposure in growth.exposures(id) {
            sum.add(&RouteCounts {
                classes: exposure.map(|requests| requests as f64),
                body_bytes: 0.0,
            });
        }
        (seconds > 0.0).then(|| sum.per(seconds))
    }
}
