//! What the functions of a trace keep, by its class.

use crate::benign;
use crate::classes::Class;
use crate::keepers::{Policy, Trigger};
use crate::random::Random;
use crate::traffic::Sizes;

use super::{EVENTS, Plan, RARE};

impl Plan {
    pub(super) fn draw_keepers(&mut self, random: &mut Random) {
        let either = if random.chance(0.5) {
            Trigger::Token
        } else {
            Trigger::Request
        };
        let rate = self.traffic.rate;
        match self.class {
            Class::TokenKeyed
            | Class::LateAttach
            | Class::LostFreesLeak
            | Class::LowRate
            | Class::TrafficStops => {
                self.leak(Some(0), Trigger::Token, Policy::Forever, random);
            }
            Class::PerRequest | Class::WrongOwner => {
                self.leak(Some(0), Trigger::Request, Policy::Forever, random);
            }
            Class::RareRoute => self.leak(Some(RARE), either, Policy::Forever, random),
            Class::PartlyEvicted => {
                let after = random.range(2.0, 30.0);
                self.leak(Some(0), Trigger::Token, Policy::Partly(0.4, after), random);
            }
            Class::LateOnset | Class::AllFresh | Class::Sampled => {
                self.leak(Some(0), either, Policy::Forever, random);
            }
            Class::TableDoubling => {
                self.leak(Some(0), either, Policy::Table(2.0, 8), random);
            }
            Class::ReallocGrowth => {
                self.leak(Some(0), either, Policy::Table(1.125, 8), random);
            }
            Class::Several => {
                let kinds = [
                    Trigger::Token,
                    Trigger::Request,
                    Trigger::Timer(random.log_range(1.0, 20.0)),
                ];
                let skip = random.below(4);
                for (index, trigger) in kinds.into_iter().enumerate().filter(|(i, _)| *i != skip) {
                    let route = (index < 2).then_some(index);
                    self.leak(route, trigger, Policy::Forever, random);
                }
            }
            Class::Background => {
                let trigger = Trigger::Timer(random.log_range(0.5, 100.0));
                self.leak(None, trigger, Policy::Forever, random);
            }
            Class::Lru => self.caches(&[0], random),
            Class::Ttl => self.caches(&[1], random),
            Class::BatchTtl => self.caches(&[2], random),
            Class::Sessions => self.caches(&[3], random),
            Class::LostFrees | Class::SampledCache | Class::Deploy => {
                self.caches(&[0, 1, 3], random);
            }
            Class::Soak | Class::BigCache => self.caches(&[0, 1, 2, 3, 4], random),
            Class::WarmUp => self.caches(&[4], random),
            Class::GcSawtooth => {
                let every = random.log_range(5.0, 50.0);
                let mut keeper =
                    self.keeper(Some(0), Trigger::Request, Policy::Batch(every), random);
                keeper.chance = (40.0 / rate).min(1.0);
                self.keepers.push(keeper);
            }
            Class::Pools => {
                let keeper = self.keeper(None, Trigger::Request, Policy::Pool, random);
                self.keepers.push(keeper);
            }
            Class::SlowRequests | Class::RssRatchet | Class::Quiet => {}
            Class::SmallEntries => {
                self.leak(Some(0), Trigger::Token, Policy::Forever, random);
                let keeper = &mut self.keepers[0];
                keeper.sizes = Sizes::fixed(self.traffic.family, 64.0);
                keeper.blocks = 1;
            }
            Class::OneInTwenty => {
                self.leak(Some(0), Trigger::Request, Policy::Forever, random);
                self.keepers[0].chance = 0.05;
            }
            Class::FullCache => self.full_cache(either, random),
        }
        self.draw_times(random);
    }

    /// Onset, length and interval, and the benign functions.
    fn draw_times(&mut self, random: &mut Random) {
        if self.class == Class::Deploy {
            self.deploy_at = Some(self.seconds * random.range(0.4, 0.6));
        }
        if self.class == Class::LateOnset {
            let from = random.range(60.0, (0.4 * self.seconds).max(90.0));
            for leak in &self.leaks {
                self.keepers[leak.keeper].from = from;
            }
            self.seconds += from;
        }
        let benign = benign::draw(&self.traffic, self.seconds, random);
        self.keepers.extend(benign);
        if let Some(part) = self
            .leaks
            .iter()
            .map(|l| self.part(&self.keepers[l.keeper]))
            .reduce(f64::min)
        {
            // a table grows by factors, so it needs more entries for several enlargements
            let events = if self.is_one_block() { 2_000.0 } else { EVENTS };
            let needed = events / (part * self.traffic.rate);
            self.seconds = self.seconds.max(needed);
        }
        if self.class == Class::TrafficStops {
            self.traffic.stops = Some(self.seconds);
            self.seconds *= 2.0;
        }
        self.interval = (self.seconds / 300.0).max(2.0);
        if self.class == Class::Soak {
            self.interval = 120.0;
        }
    }

    /// An LRU or TTL cache that has been full for a while before the attach.
    fn full_cache(&mut self, trigger: Trigger, random: &mut Random) {
        let mut keeper = self.keeper(Some(0), trigger, Policy::Forever, random);
        keeper.chance = (60.0 / (self.traffic.rate * self.traffic.routes[0])).min(1.0);
        let inserts = self.part(&keeper) * self.traffic.rate;
        // longer than most traces, so that few turn over while they are observed
        let turnover = random.log_range(30.0, 600.0);
        keeper.policy = if random.chance(0.5) {
            Policy::Lru((inserts * turnover).clamp(50.0, 5_000.0) as usize)
        } else {
            Policy::Ttl(turnover)
        };
        self.before = 1.5
            * match keeper.policy {
                Policy::Lru(most) => most as f64 / inserts,
                _ => turnover,
            };
        self.keepers.push(keeper);
    }

    /// One of several kinds of caches: LRU, TTL, batch, sessions, warm-up.
    fn caches(&mut self, kinds: &[usize], random: &mut Random) {
        let rate = self.traffic.rate;
        let part = (1.0 - self.traffic.anonymous) * self.traffic.routes[0];
        // a rate of entries that is cheap to simulate
        let chance = (60.0 / (rate * part)).min(1.0);
        let inserts = rate * part * chance;
        let trigger = if random.chance(0.5) {
            Trigger::Token
        } else {
            Trigger::Request
        };
        let policy = match kinds[random.below(kinds.len())] {
            // full after a fraction of the trace, if every request created an entry
            0 => Policy::Lru(
                (inserts * self.seconds * random.log_range(0.01, 0.3)).clamp(20.0, 3_000.0)
                    as usize,
            ),
            1 => Policy::Ttl(random.log_range(10.0, 120.0)),
            2 => Policy::Batch(random.log_range(60.0, 300.0)),
            3 => {
                Policy::Exponential(random.log_range(10.0, (self.seconds / 6.0).clamp(20.0, 300.0)))
            }
            _ => Policy::First(
                (inserts * self.seconds * random.range(0.02, 0.2)).clamp(20.0, 5_000.0) as usize,
            ),
        };
        let mut keeper = self.keeper(Some(0), trigger, policy, random);
        keeper.chance = chance;
        self.keepers.push(keeper);
    }
}
