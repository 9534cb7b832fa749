//! A simulated service: its processing of the requests of a trace, and an agent's observations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use heaptide_judge::events::{
    Binding, LiveGroup, Losses, MemoryKind, Nanos, Observation, RequestId, SiteId,
};

use crate::keepers::{Held, Holding, Keeper, NONE, Policy, Presence, Trigger};
use crate::plan::{Leak, Plan};
use crate::random::Random;
use crate::sites::{site_id, size_class};

const START: u64 = 100_000_000_000_000;
/// Site of memory that requests hold while they run.
const WORKING: u64 = 1;

mod shown;

/// A request in progress, ordered by its end.
type UnderWay = Reverse<(u64, u64, u64, u32, u8, u32)>;

pub(crate) struct World<'a> {
    plan: &'a Plan,
    random: Random,
    groups: Vec<LiveGroup>,
    /// Of each slot of `groups`, whether the block is older than the attach.
    older: Vec<bool>,
    /// Older blocks that were freed, by size class.
    returned: BTreeMap<u32, u64>,
    free: Vec<u32>,
    holdings: Vec<Holding>,
    under_way: BinaryHeap<UnderWay>,
    tokens: u32,
    requests: u64,
    losses: Losses,
    held: f64,
    /// Resident bytes of older blocks at the attach.
    before: f64,
    now: f64,
    /// RSS at the last snapshot.
    pub(crate) used: f64,
}

impl<'a> World<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let mut world = Self {
            plan,
            random: Random::new(plan.seed),
            groups: Vec::new(),
            older: Vec::new(),
            returned: BTreeMap::new(),
            free: Vec::new(),
            holdings: Vec::new(),
            under_way: BinaryHeap::new(),
            tokens: plan.traffic.known_before as u32,
            requests: 0,
            losses: Losses::default(),
            held: 0.0,
            before: 0.0,
            now: -plan.before,
            used: plan.base,
        };
        world.holdings = plan
            .keepers
            .iter()
            .map(|keeper| world.known(keeper))
            .collect();
        if plan.before > 0.0 {
            world.run_before();
        }
        world
    }

    /// Runs until the attach. What is live then is older than the observation.
    fn run_before(&mut self) {
        let step = 1.0;
        while self.now < 0.0 {
            let until = (self.now + step).min(0.0);
            self.serve(until, &mut |_| {});
            self.sweep();
        }
        // no record is sent of requests that had begun before the attach
        while let Some(Reverse((.., working))) = self.under_way.pop() {
            self.release(working);
        }
        self.older = self.groups.iter().map(|group| group.seen > 0).collect();
        self.returned.clear();
        self.losses = Losses::default();
        let live = self.groups.iter().filter(|group| group.seen > 0);
        self.held = live.map(|group| group.bytes).sum::<f64>() * self.plan.overhead;
        self.before = self.held;
    }

    /// Runs until `until` seconds and passes all observations to `sink`, ending with a snapshot.
    pub(crate) fn run(&mut self, until: f64, sink: &mut impl FnMut(Observation)) {
        let plan = self.plan;
        self.serve(until, sink);
        self.sweep();
        if let Some(at) = plan.deploy_at
            && (at..at + plan.interval).contains(&until)
        {
            self.replace(sink);
        }
        self.snapshot(sink);
    }

    /// Serves the requests until `until` seconds.
    fn serve(&mut self, until: f64, sink: &mut impl FnMut(Observation)) {
        let plan = self.plan;
        loop {
            let (at, together) = plan.traffic.next(self.now, &mut self.random);
            if at > until {
                break;
            }
            self.now = at;
            self.end_requests(sink);
            for _ in 0..together {
                self.request();
            }
        }
        self.now = until;
        self.end_requests(sink);
    }

    /// Mean bytes per second that the leaks kept so far.
    pub(crate) fn leaking(&self) -> f64 {
        let leaks = self.plan.leaks.iter();
        leaks.map(|leak| self.kept_by(leak)).sum::<f64>() / self.now.max(1.0)
    }

    fn kept_by(&self, leak: &Leak) -> f64 {
        let part = match self.plan.keepers[leak.keeper].policy {
            Policy::Partly(share, _) => 1.0 - share,
            _ => 1.0,
        };
        part * self.holdings[leak.keeper].bytes
    }

    /// Mean bytes that the leaks keep per request, and per second without requests, so far.
    pub(crate) fn kept(&self) -> (f64, f64) {
        let mut kept = (0.0, 0.0);
        for leak in &self.plan.leaks {
            let keeper = &self.plan.keepers[leak.keeper];
            let bytes = self.kept_by(leak);
            if let Trigger::Timer(_) = keeper.trigger {
                kept.1 += bytes / (self.now - keeper.from).max(1.0);
            } else {
                kept.0 += bytes / self.plan.requests(keeper.from, self.now).max(1.0);
            }
        }
        kept
    }

    /// A keeper that already has the tokens from before the attach.
    fn known(&self, keeper: &Keeper) -> Holding {
        let mut holding = Holding::default();
        if keeper.trigger == Trigger::Token && keeper.policy == Policy::Forever {
            for token in 0..self.plan.traffic.known_before {
                holding.set(token as u32, Presence::Present);
            }
        }
        holding
    }

    fn nanos(&self) -> u64 {
        START.saturating_add_signed((self.now * 1e9) as i64)
    }

    fn request(&mut self) {
        let plan = self.plan;
        let traffic = &plan.traffic;
        self.requests += 1;
        let route = traffic.route(&mut self.random);
        let token = if self.random.chance(traffic.anonymous) {
            NONE
        } else if self.tokens == 0 || self.random.chance(traffic.fresh) {
            self.tokens += 1;
            self.tokens - 1
        } else {
            let back = traffic.session(&mut self.random) as u32;
            self.tokens - 1 - back.min(self.tokens - 1)
        };
        let start = self.nanos();
        let end = start + (traffic.latency(&mut self.random) * 1e9) as u64;
        let working = if plan.working >= 16.0 {
            self.allocate(WORKING, Some(self.requests), plan.working)
        } else {
            NONE
        };
        self.under_way.push(Reverse((
            end,
            self.requests,
            start,
            token,
            route as u8,
            working,
        )));
        for index in 0..plan.keepers.len() {
            let keeper = &plan.keepers[index];
            if keeper.route.is_some_and(|only| only != route)
                || (keeper.from > 0.0 && self.now < keeper.from)
                || (keeper.chance < 1.0 && !self.random.chance(keeper.chance))
            {
                continue;
            }
            match keeper.trigger {
                Trigger::Token if token != NONE => self.keep(index, token, Some(self.requests)),
                Trigger::Request => self.keep(index, NONE, Some(self.requests)),
                _ => {}
            }
        }
    }

    fn keep(&mut self, index: usize, token: u32, request: Option<u64>) {
        let keeper = &self.plan.keepers[index];
        if token != NONE && !has_effect(token, keeper.tokens) {
            return;
        }
        if token != NONE && self.holdings[index].presence(token) != Presence::Absent {
            self.holdings[index].set(token, Presence::Used);
            return;
        }
        let made = self.holdings[index].made;
        match keeper.policy {
            Policy::First(most) if made >= most => return,
            Policy::Pool if made >= self.under_way.len() => return,
            _ => {}
        }
        let size = keeper.sizes.bytes(&mut self.random);
        self.holdings[index].made += 1;
        self.holdings[index].set(token, Presence::Present);
        if let Policy::Table(factor, least) = keeper.policy {
            self.grow_table(index, request, factor, least);
            return;
        }
        self.holdings[index].bytes += size;
        let mut slots = [NONE; 2];
        for (block, slot) in slots.iter_mut().enumerate().take(keeper.blocks) {
            let part = match (keeper.blocks, block) {
                (1, _) => size,
                (_, 0) => (size * 0.75).round(),
                _ => (size * 0.25).round(),
            };
            *slot = self.allocate(site_id(index, block), request, part);
        }
        let held = Held { slots, token };
        match keeper.policy {
            Policy::Lru(most) => {
                self.holdings[index].queue.push_back(held);
                self.evict(index, most);
            }
            Policy::Ttl(_) | Policy::Batch(_) => {
                // a TTL sweep needs the time of each, in `due`
                let after = if let Policy::Ttl(after) = keeper.policy {
                    after
                } else {
                    0.0
                };
                if after > 0.0 {
                    self.due(index, held, after);
                } else {
                    self.holdings[index].queue.push_back(held);
                }
            }
            Policy::Exponential(mean) => {
                let after = mean * self.random.exponential();
                self.due(index, held, after);
            }
            Policy::Partly(share, after) if self.random.chance(share) => {
                let after = after * self.random.range(0.5, 1.5);
                self.due(index, held, after);
            }
            _ => {}
        }
    }

    fn due(&mut self, index: usize, held: Held, after: f64) {
        let at = self.nanos() + (after * 1e9) as u64;
        self.holdings[index].due.push(Reverse((at, held)));
    }

    fn grow_table(&mut self, index: usize, request: Option<u64>, factor: f64, least: usize) {
        let made = self.holdings[index].made;
        let (old, capacity) = self.holdings[index].table.unwrap_or((NONE, 0));
        if made <= capacity {
            return;
        }
        let next = ((capacity as f64 * factor) as usize).max(least).max(made);
        let entry = self.plan.keepers[index].sizes.median;
        let new = self.allocate(site_id(index, 0), request, entry * next as f64);
        self.release(old);
        self.holdings[index].table = Some((new, next));
        self.holdings[index].bytes = entry * next as f64;
    }

    fn evict(&mut self, index: usize, most: usize) {
        while self.holdings[index].queue.len() > most {
            let Some(held) = self.holdings[index].queue.pop_front() else {
                return;
            };
            if held.token != NONE && self.holdings[index].presence(held.token) == Presence::Used {
                self.holdings[index].set(held.token, Presence::Present);
                self.holdings[index].queue.push_back(held);
                continue;
            }
            self.let_go(index, held);
        }
    }

    fn let_go(&mut self, index: usize, held: Held) {
        // if a leak frees a part, the token stays known
        if !matches!(self.plan.keepers[index].policy, Policy::Partly(..)) {
            self.holdings[index].set(held.token, Presence::Absent);
        }
        for slot in held.slots {
            self.release(slot);
        }
    }

    /// Timers, expiry and clearing.
    fn sweep(&mut self) {
        let now = self.nanos();
        for index in 0..self.plan.keepers.len() {
            let keeper = &self.plan.keepers[index];
            if let Trigger::Timer(rate) = keeper.trigger {
                let since = self.now + self.plan.before - keeper.from;
                let due = (since.max(0.0) * rate) as u64;
                while self.holdings[index].ticks < due {
                    self.holdings[index].ticks += 1;
                    self.keep(index, NONE, None);
                }
            } else if let Policy::Batch(every) = keeper.policy {
                let batches = (self.now / every) as u64;
                if self.holdings[index].ticks < batches {
                    self.holdings[index].ticks = batches;
                    while let Some(held) = self.holdings[index].queue.pop_front() {
                        self.let_go(index, held);
                    }
                }
            }
            while let Some(&Reverse((at, held))) = self.holdings[index].due.peek()
                && at <= now
            {
                self.holdings[index].due.pop();
                self.let_go(index, held);
            }
        }
    }

    fn allocate(&mut self, site: u64, request: Option<u64>, bytes: f64) -> u32 {
        let faults = self.plan.faults;
        self.losses.tracked += 1;
        let mut weight = 1.0;
        if faults.sampling < 1.0 {
            // by bytes, as in the agent: large blocks are always kept
            let part = 1.0 - (-bytes * faults.sampling / 1_000.0).exp();
            if !self.random.chance(part) {
                self.losses.sampled_out += 1;
                return NONE;
            }
            weight = 1.0 / part;
        }
        let wrong = faults.wrong > 0.0 && self.random.chance(faults.wrong);
        let request = request.map(|id| {
            if wrong {
                id.saturating_sub(1 + self.random.below(64) as u64).max(1)
            } else {
                id
            }
        });
        let binding = match request {
            None => Binding::None,
            Some(_) if faults.wrong > 0.0 => Binding::Inferred,
            Some(_) => Binding::Exact,
        };
        let group = LiveGroup {
            site: SiteId(site),
            request: request.map(RequestId),
            binding,
            born: Nanos(self.nanos() / 1_000_000_000 * 1_000_000_000),
            blocks: weight,
            bytes: weight * bytes,
            seen: 1,
            variance: weight * (weight - 1.0) * bytes * bytes,
            kind: MemoryKind::Heap,
            size: size_class(bytes as u64),
        };
        if let Some(slot) = self.free.pop() {
            self.groups[slot as usize] = group;
            self.older[slot as usize] = false;
            slot
        } else {
            self.groups.push(group);
            self.older.push(false);
            self.groups.len() as u32 - 1
        }
    }

    fn release(&mut self, slot: u32) {
        if slot == NONE {
            return;
        }
        let lost = self.plan.faults.lost_frees;
        if lost > 0.0 && self.random.chance(lost) {
            self.losses.lost_frees += 1;
            return;
        }
        self.losses.freed += 1;
        let group = &mut self.groups[slot as usize];
        group.seen = 0;
        if self.older[slot as usize] {
            self.losses.unknown_frees += 1;
            *self.returned.entry(group.size).or_default() += 1;
        }
        self.free.push(slot);
    }

    /// A deploy in the same process id: another address space.
    fn replace(&mut self, sink: &mut impl FnMut(Observation)) {
        self.groups.clear();
        self.older.clear();
        self.free.clear();
        self.under_way.clear();
        self.held = 0.0;
        self.holdings = self
            .plan
            .keepers
            .iter()
            .map(|_| Holding::default())
            .collect();
        sink(Observation::Forgotten(Nanos(self.nanos())));
    }
}

/// Whether `token` is among the `part` of the tokens that have an effect.
fn has_effect(token: u32, part: f64) -> bool {
    let hash = (u64::from(token) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (hash >> 32) as f64 / f64::from(u32::MAX) < part
}
