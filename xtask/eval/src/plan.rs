//! From a class, a family and a number to a complete trace, including its truth.

use heaptide_judge::report::Cause;

use crate::benign;
use crate::classes::{Class, Kind};
use crate::keepers::{Keeper, Policy, Trigger};
use crate::random::Random;
use crate::traffic::{Family, Shape, Sizes, Traffic};

mod draw;

/// Heads of the routes; the first is the busiest, the last the rare one.
pub(crate) const ROUTES: [&str; 5] = [
    "GET /api/data",
    "GET /orders",
    "GET /health",
    "POST /upload",
    "GET /export",
];
/// The route with the least traffic.
const RARE: usize = 4;
/// Approximate number of requests of a trace.
const REQUESTS: f64 = 25_000.0;
/// Requests with an effect that are needed to tell a leak from chance.
const EVENTS: f64 = 300.0;

/// Defects of the observations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) lost_frees: f64,
    /// 1: every block is tracked; otherwise about this fraction of blocks of 1,000 bytes.
    pub(crate) sampling: f64,
    pub(crate) wrong: f64,
}

/// A leak and the expected finding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leak {
    pub(crate) keeper: usize,
    pub(crate) cause: Cause,
}

/// A trace.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) class: Class,
    pub(crate) seed: u64,
    pub(crate) traffic: Traffic,
    pub(crate) keepers: Vec<Keeper>,
    pub(crate) leaks: Vec<Leak>,
    pub(crate) faults: Faults,
    pub(crate) seconds: f64,
    pub(crate) interval: f64,
    pub(crate) deploy_at: Option<f64>,
    /// Seconds that the service ran before the attach.
    pub(crate) before: f64,
    /// Bytes that a request holds while it runs.
    pub(crate) working: f64,
    pub(crate) ratchet: bool,
    /// Bytes resident per live heap byte.
    pub(crate) overhead: f64,
    pub(crate) drift: f64,
    pub(crate) drift_seconds: f64,
    /// Resident bytes at the attach.
    pub(crate) base: f64,
    pub(crate) limit: f64,
}

impl Plan {
    pub(crate) fn new(class: Class, family: Family, number: u64, seed: u64) -> Self {
        Self::with(class, family, number, seed, None)
    }

    /// A plan with this rate and so many seconds, if they are given.
    pub(crate) fn with(
        class: Class,
        family: Family,
        number: u64,
        seed: u64,
        fixed: Option<(f64, f64)>,
    ) -> Self {
        let mixed = [class as u64, family as u64, number].iter().fold(
            seed ^ 0x3141_5926_5358_9793,
            |hash, part| {
                (hash ^ part)
                    .wrapping_mul(0x0000_0100_0000_01B3)
                    .rotate_left(29)
            },
        );
        let mut random = Random::new(mixed);
        let mut plan = Self::traffic_of(class, family, mixed, fixed, &mut random);
        plan.draw_keepers(&mut random);
        plan.size(&mut random);
        plan
    }

    /// Whether all entries of the leak are in one block.
    pub(crate) fn is_one_block(&self) -> bool {
        matches!(self.class, Class::TableDoubling | Class::ReallocGrowth)
    }

    /// Expected requests in a time range.
    pub(crate) fn requests(&self, from: f64, to: f64) -> f64 {
        let steps = 200;
        let step = (to - from) / f64::from(steps);
        (0..steps)
            .map(|i| step * self.traffic.rate_at(from + step * (f64::from(i) + 0.5)))
            .sum()
    }

    fn traffic_of(
        class: Class,
        family: Family,
        seed: u64,
        fixed: Option<(f64, f64)>,
        random: &mut Random,
    ) -> Self {
        // classes about long times have less traffic, so that a trace stays cheap
        let (rate, least_seconds) = match class {
            _ if fixed.is_some() => fixed.unwrap_or_default(),
            Class::Soak => (random.log_range(0.1, 0.5), 172_800.0),
            Class::BatchTtl => (random.log_range(2.0, 100.0), 700.0),
            Class::Sessions | Class::GcSawtooth => (random.log_range(2.0, 200.0), 400.0),
            Class::SlowRequests => (random.log_range(2.0, 200.0), 240.0),
            Class::LowRate => (random.log_range(5.0, 20.0), 120.0),
            Class::BigCache | Class::LateOnset | Class::FullCache => {
                (random.log_range(2.0, 500.0), 240.0)
            }
            _ => (random.log_range(2.0, 5_000.0), 80.0),
        };
        let least = if class == Class::RareRoute {
            random.log_range(0.01, 0.05)
        } else {
            0.02
        };
        let main = random.range(0.3, 0.6);
        let rest = (1.0 - main - least) / 3.0;
        let fresh = match class {
            Class::AllFresh => 1.0,
            _ => random.log_range(0.02, 1.0),
        };
        let sessions = random.log_range(40.0, 2_000.0);
        let seconds = match fixed {
            Some((_, seconds)) => seconds,
            None => (REQUESTS / rate).clamp(least_seconds, 7_200.0_f64.max(least_seconds)),
        };
        let known_before = match class {
            Class::AllFresh => 0.0,
            Class::LateAttach => random.log_range(1_000.0, 10_000.0),
            _ => sessions * random.range(0.0, 1.0),
        };
        Self {
            class,
            seed,
            traffic: Traffic {
                family,
                rate,
                shape: Shape::draw(family, seconds, random),
                routes: vec![main, rest, rest, rest, least],
                fresh,
                anonymous: random.range(0.0, 0.2),
                sessions: match class {
                    Class::LateAttach => known_before as usize,
                    _ => sessions as usize,
                },
                known_before: known_before as usize,
                stops: None,
                latency: match class {
                    Class::SlowRequests => random.log_range(1.0, 20.0),
                    Class::Pools => random.log_range(0.02, 0.5),
                    _ => random.log_range(0.001, 0.2),
                },
            },
            keepers: Vec::new(),
            leaks: Vec::new(),
            faults: Faults {
                lost_frees: match class {
                    Class::LostFrees => random.log_range(0.001, 0.05),
                    Class::LostFreesLeak => random.log_range(0.002, 0.05),
                    _ => 0.0,
                },
                sampling: match class {
                    Class::Sampled | Class::SampledCache => 0.1,
                    _ => 1.0,
                },
                wrong: if class == Class::WrongOwner { 0.3 } else { 0.0 },
            },
            seconds,
            interval: 2.0,
            deploy_at: None,
            before: 0.0,
            working: 4_000.0,
            ratchet: class == Class::RssRatchet,
            overhead: random.range(1.02, 1.15),
            drift: 0.0,
            drift_seconds: random.log_range(60.0, 1_200.0),
            base: 0.0,
            limit: 0.0,
        }
    }

    /// Fraction of the requests that create an entry in an unbounded keeper.
    fn part(&self, keeper: &Keeper) -> f64 {
        let traffic = &self.traffic;
        let share = keeper.route.map_or(1.0, |route| traffic.routes[route]);
        match keeper.trigger {
            Trigger::Request => share * keeper.chance,
            // of 1 / fresh uses of a token, at least one is on this route
            Trigger::Token => {
                let uses = 1.0 / traffic.fresh;
                let here = share * keeper.chance;
                (1.0 - traffic.anonymous) * traffic.fresh * (1.0 - (1.0 - here).powf(uses))
            }
            Trigger::Timer(rate) => rate / traffic.rate,
        }
    }

    fn keeper(
        &self,
        route: Option<usize>,
        trigger: Trigger,
        policy: Policy,
        random: &mut Random,
    ) -> Keeper {
        let median = random.log_range(100.0, 8_000.0);
        Keeper {
            function: format!("keep_{}", self.keepers.len()),
            route,
            chance: 1.0,
            tokens: 1.0,
            trigger,
            policy,
            sizes: Sizes::draw(self.traffic.family, median, random),
            blocks: 1 + random.below(2),
            from: 0.0,
        }
    }

    fn leak(
        &mut self,
        route: Option<usize>,
        trigger: Trigger,
        policy: Policy,
        random: &mut Random,
    ) {
        let mut keeper = self.keeper(route, trigger, policy, random);
        if trigger == Trigger::Request {
            keeper.chance = random.range(0.2, 1.0);
        }
        let cause = match trigger {
            _ if matches!(self.class, Class::AllFresh) => Cause::Indeterminate,
            Trigger::Token => Cause::TokenKeyed,
            Trigger::Request => Cause::PerRequest,
            Trigger::Timer(_) => Cause::Background,
        };
        self.leaks.push(Leak {
            keeper: self.keepers.len(),
            cause,
        });
        self.keepers.push(keeper);
    }

    /// Maximum number of entries of a bounded keeper.
    pub(crate) fn plateau(&self, keeper: &Keeper) -> f64 {
        let inserts = self.part(keeper) * self.traffic.rate * self.traffic.shape.most();
        match keeper.policy {
            Policy::Lru(most) | Policy::First(most) => most as f64,
            Policy::Ttl(seconds) | Policy::Batch(seconds) => {
                inserts * (seconds + 2.0 * self.interval)
            }
            Policy::Exponential(mean) => inserts * mean,
            Policy::Pool => {
                3.0 * self.traffic.rate * self.traffic.shape.most() * self.traffic.latency + 5.0
            }
            _ => 0.0,
        }
        .max(4.0)
    }

    /// Limit and sizes: the time in which the leaks use up the headroom, or the fraction of it that the
    /// caches hold.
    fn size(&mut self, random: &mut Random) {
        let first_benign = self.keepers.len() - benign::COUNT;
        let grows: f64 = self
            .leaks
            .iter()
            .map(|leak| {
                let keeper = &self.keepers[leak.keeper];
                self.part(keeper) * self.traffic.rate * keeper.sizes.mean()
            })
            .sum();
        let headroom = if grows > 0.0 {
            let onset = self
                .leaks
                .iter()
                .map(|leak| self.keepers[leak.keeper].from)
                .fold(0.0, f64::max);
            let kept = if self.class == Class::PartlyEvicted {
                0.6
            } else {
                1.0
            };
            kept * grows * (self.seconds - onset) * random.range(4.5, 8.0)
        } else {
            let held: f64 = self.keepers[..first_benign]
                .iter()
                .map(|keeper| self.plateau(keeper) * keeper.sizes.mean())
                .sum();
            let part = match (self.class.kind(), self.class) {
                (Kind::Hard, _) => random.log_range(0.06, 0.3),
                (_, Class::FullCache) => random.log_range(0.01, 0.3),
                // a collector lets its heap double
                (_, Class::GcSawtooth) => random.log_range(0.02, 0.4),
                _ => random.log_range(0.004, 0.04),
            };
            held.max(1e6) / part
        };
        for index in first_benign..self.keepers.len() {
            let entries = self.plateau(&self.keepers[index]);
            let bytes = headroom * random.log_range(0.0003, 0.004) / entries;
            self.keepers[index].sizes =
                Sizes::draw(self.traffic.family, bytes.clamp(16.0, 1e6), random);
        }
        let busy = self.traffic.rate * self.traffic.latency;
        self.working = match self.class {
            Class::SlowRequests => {
                headroom * random.range(0.02, 0.3) / (busy * self.traffic.shape.most()).max(1.0)
            }
            _ => (headroom * random.log_range(0.001, 0.02) / busy.max(1.0)).min(50_000.0),
        };
        self.base = headroom * random.log_range(0.15, 4.0);
        self.drift = headroom * random.range(0.0, 0.02);
        self.limit = self.base + headroom;
    }
}
