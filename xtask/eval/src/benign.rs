//! The eight benign functions of every trace.

use crate::keepers::{Keeper, Policy, Trigger};
use crate::random::Random;
use crate::traffic::{Sizes, Traffic};

/// Number of them in each trace.
pub(crate) const COUNT: usize = 8;
/// Maximum entries per second in one of them.
const RATE: f64 = 8.0;

pub(crate) fn draw(traffic: &Traffic, seconds: f64, random: &mut Random) -> Vec<Keeper> {
    let thin = |share: f64| (RATE / (traffic.rate * share)).min(1.0);
    // a hundred entries in days, not thousands
    let slow = |most: f64| most.min(seconds / 10.0);
    let rows = [
        (
            "lru_of_orders",
            Some(1),
            Trigger::Token,
            Policy::Lru(20 + random.below(180)),
        ),
        (
            "answers_for_a_while",
            Some(0),
            Trigger::Request,
            Policy::Ttl(slow(random.log_range(4.0, 20.0))),
        ),
        ("buffer_pool", None, Trigger::Request, Policy::Pool),
        (
            "first_requests",
            Some(3),
            Trigger::Request,
            Policy::First(30 + random.below(200)),
        ),
        (
            "batch_of_events",
            Some(2),
            Trigger::Request,
            Policy::Batch(random.log_range(10.0, 40.0)),
        ),
        (
            "sessions",
            Some(0),
            Trigger::Token,
            Policy::Exponential(random.log_range(4.0, 30.0)),
        ),
        (
            "ring_of_samples",
            None,
            Trigger::Timer(1.0 / (seconds / 400.0).max(1.0)),
            Policy::Lru(30 + random.below(30)),
        ),
        ("last_errors", Some(3), Trigger::Request, Policy::Lru(50)),
    ];
    rows.into_iter()
        .map(|(function, route, trigger, policy)| Keeper {
            function: function.to_owned(),
            route,
            chance: match trigger {
                Trigger::Timer(_) => 1.0,
                _ => thin(route.map_or(1.0, |route| traffic.routes[route])),
            },
            tokens: 1.0,
            trigger,
            policy,
            sizes: Sizes::draw(traffic.family, 100.0, random),
            blocks: 1,
            from: 0.0,
        })
        .collect()
}
