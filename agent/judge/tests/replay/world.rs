//! A deterministic simulated service: requests, what they keep, and what an agent would observe.
//!
//! Time is simulated, and requests are served in order. Random numbers come from one xorshift generator
//! with the same seed in every trace but those of comparisons, so no scenario was tuned to a seed.

use std::collections::{BTreeMap, HashSet, VecDeque};

use heaptide_judge::events::{
    Binding, Fingerprint, Losses, Nanos, Observation, Request, RequestId,
};

mod shown;

pub(crate) use super::keeps::Keeps;

/// The seed: digits of pi.
const RANDOM: u64 = 0x3141_5926_5358_9793;
/// Repeated tokens are drawn from this many latest tokens.
const SESSIONS: usize = 200;
/// RSS before the first request.
const BASE_RSS: u64 = 30 << 20;

/// A trace to generate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub keeps: Keeps,
    /// Added to the seed.
    pub seed: u64,
    pub seconds: u64,
    /// Seconds that the service ran before it is observed.
    pub before: u64,
    /// The allocator does not report the size of a freed block.
    pub unsized_frees: bool,
    /// Size of blocks from before the observation, relative to later ones.
    pub older_size: f64,
    /// Requests per second; half of them go to the leaky route.
    pub rate: f64,
    /// Factor on the rate, at a second of the trace.
    pub load: fn(f64) -> f64,
    /// Seconds between two snapshots.
    pub interval: u64,
    /// Part of the requests with a token whose token is fresh.
    pub fresh: f64,
    /// Part of the requests without a token.
    pub anonymous: f64,
    /// Seconds a request takes, at a second of the trace.
    pub latency: fn(f64) -> f64,
    /// Bytes of an entry (over two blocks).
    pub entry: u64,
    /// Bytes a request holds while it runs.
    pub working: u64,
    /// Part of the blocks that sampling takes.
    pub sampling: f64,
    /// Part of the frees that are missed.
    pub lost_frees: f64,
    /// RSS never falls.
    pub ratchet: bool,
    pub limit: u64,
    /// Its runtime has a heap that is not read.
    pub heap_unseen: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            keeps: Keeps::Nothing,
            seed: 0,
            seconds: 60,
            before: 0,
            unsized_frees: false,
            older_size: 1.0,
            rate: 100.0,
            load: |_| 1.0,
            interval: 2,
            fresh: 0.5,
            anonymous: 0.0,
            latency: |_| 0.004,
            entry: 1_900,
            working: 6_000,
            sampling: 1.0,
            lost_frees: 0.0,
            ratchet: false,
            limit: 256 << 20,
            heap_unseen: false,
        }
    }
}

/// Known totals of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// Requests that ended.
    pub requests: u64,
    /// Distinct tokens.
    pub tokens: u64,
}

struct Block {
    site: u64,
    request: Option<RequestId>,
    born: Nanos,
    bytes: u64,
    /// It was allocated before the observation.
    older: bool,
}

struct World {
    trace: Trace,
    random: u64,
    now: Nanos,
    blocks: BTreeMap<u64, Block>,
    next_block: u64,
    /// Blocks to free at a time: `(when, block)`.
    due: BTreeMap<(Nanos, u64), u64>,
    /// Entries: key to its blocks, in order of last use.
    entries: BTreeMap<u64, (Vec<u64>, Nanos)>,
    order: VecDeque<u64>,
    /// Tokens that [`Keeps::CacheAndLeak`] has leaked a block for.
    leaked: HashSet<u64>,
    table: Option<(u64, u64)>,
    tokens: Vec<u64>,
    losses: Losses,
    /// The service is observed.
    observed: bool,
    /// Freed blocks that are older than the observation, by size.
    returned: BTreeMap<u32, u64>,
    peak: u64,
    truth: Truth,
    out: Vec<Observation>,
}

/// Generates `trace`.
pub(crate) fn generate(trace: Trace) -> (Vec<Observation>, Truth) {
    let mut world = World {
        trace,
        random: RANDOM.wrapping_add(trace.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        now: Nanos(1_000_000_000_000),
        blocks: BTreeMap::new(),
        next_block: 0,
        due: BTreeMap::new(),
        entries: BTreeMap::new(),
        order: VecDeque::new(),
        leaked: HashSet::new(),
        table: None,
        tokens: Vec::new(),
        losses: Losses::default(),
        observed: trace.before == 0,
        returned: BTreeMap::new(),
        peak: 0,
        truth: Truth::default(),
        out: Vec::new(),
    };
    let start = world.now;
    let attached = start.plus(trace.before as f64);
    world
        .out
        .extend(super::sites::announce(attached, trace.heap_unseen));
    let end = trace.before + trace.seconds;
    let mut second = 0;
    let mut elapsed = 0.0;
    for index in 0.. {
        let at = Nanos(start.0 + (elapsed * 1e9) as u64);
        if elapsed >= end as f64 {
            break;
        }
        let load = (trace.load)(elapsed - trace.before as f64);
        elapsed += 1.0 / (trace.rate * load.max(0.01));
        while start.0 + (second + 1) * 1_000_000_000 <= at.0 {
            second += 1;
            world.second(Nanos(start.0 + second * 1_000_000_000), second);
        }
        world.free_until(at);
        world.request(index, at, at.since(attached));
    }
    while second < end {
        second += 1;
        world.second(Nanos(start.0 + second * 1_000_000_000), second);
    }
    (world.out, world.truth)
}

impl World {
    /// 0..1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn alloc(&mut self, site: u64, request: Option<RequestId>, bytes: u64) -> u64 {
        let bytes = if self.observed {
            bytes
        } else {
            (bytes as f64 * self.trace.older_size) as u64
        };
        self.next_block += 1;
        self.losses.tracked += 1;
        let block = Block {
            site,
            request,
            born: self.now,
            bytes,
            older: !self.observed,
        };
        if self.trace.sampling >= 1.0 || self.chance() < self.trace.sampling {
            self.blocks.insert(self.next_block, block);
        } else {
            self.losses.sampled_out += 1;
        }
        self.next_block
    }

    fn free(&mut self, block: u64) {
        if self.trace.lost_frees > 0.0 && self.chance() < self.trace.lost_frees {
            self.losses.lost_frees += 1;
            return;
        }
        self.losses.freed += 1;
        if let Some(block) = self.blocks.remove(&block)
            && block.older
            && self.observed
        {
            self.losses.unknown_frees += 1;
            let size = if self.trace.unsized_frees {
                0
            } else {
                block.bytes as u32
            };
            *self.returned.entry(size).or_default() += 1;
        }
    }

    fn free_until(&mut self, at: Nanos) {
        while let Some((&(when, _), _)) = self.due.first_key_value()
            && when <= at
        {
            if let Some((_, block)) = self.due.pop_first() {
                self.now = when;
                self.free(block);
            }
        }
        self.now = at;
    }

    fn request(&mut self, index: u64, at: Nanos, seconds: f64) {
        let id = RequestId(index + 1);
        let end = Nanos(at.0 + ((self.trace.latency)(seconds) * 1e9) as u64);
        let leaky = index.is_multiple_of(2);
        let anonymous = self.chance() < self.trace.anonymous;
        let fresh = self.tokens.is_empty() || self.chance() < self.trace.fresh;
        let token = if fresh {
            let token = self.tokens.len() as u64 + 1;
            self.tokens.push(token);
            token
        } else {
            let recent = self.tokens.len().saturating_sub(SESSIONS);
            let pick = (self.chance() * (self.tokens.len() - recent) as f64) as usize;
            self.tokens[recent + pick]
        };
        // Working memory, freed at the end.
        let block = self.alloc(5, Some(id), self.trace.working);
        self.due.insert((end, block), block);
        if leaky && !anonymous {
            self.keep(index, id, token, seconds);
        }
        let head = match index % 4 {
            0 | 2 => "GET /api/data".to_owned(),
            1 => format!("GET /users/{index}"),
            _ => "GET /health".to_owned(),
        };
        if !self.observed {
            return;
        }
        self.truth.requests += 1;
        self.truth.tokens = self.tokens.len() as u64;
        self.losses.requests += 1;
        self.out.push(Observation::Request(Request {
            id,
            start: at,
            end,
            head,
            token: (!anonymous).then(|| Fingerprint(token.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            status: Some(200),
            binding: Binding::Exact,
            body_bytes: 0,
            token_uncertain: false,
            path_cut: false,
            again: false,
        }));
    }

    /// Two blocks for one entry.
    fn entry(&mut self, id: RequestId) -> Vec<u64> {
        let large = self.trace.entry * 3 / 4;
        vec![
            self.alloc(1, Some(id), large),
            self.alloc(2, Some(id), self.trace.entry - large),
        ]
    }

    fn keep(&mut self, index: u64, id: RequestId, token: u64, seconds: f64) {
        match self.trace.keeps {
            Keeps::Nothing | Keeps::Timer(_) | Keeps::StrayTimer(_) => {}
            Keeps::PerToken => self.keep_once(token, id),
            Keeps::PerSubject(tokens) => self.keep_once(token / tokens, id),
            Keeps::PerRequest => {
                self.entry(id);
            }
            Keeps::Both => {
                self.keep_once(token, id);
                let half = self.trace.entry / 2;
                self.alloc(6, Some(id), half);
            }
            Keeps::PerTokenWithTable => {
                self.keep_once(token, id);
                let capacity = (self.entries.len() as u64 * 8 / 7)
                    .next_power_of_two()
                    .max(4);
                self.grow_table(id, capacity, 49);
            }
            Keeps::TableOnly(most) => {
                if self.entries.len() as u64 >= most || self.entries.contains_key(&token) {
                    return;
                }
                self.entries.insert(token, (Vec::new(), self.now));
                let capacity = (self.entries.len() as u64).next_power_of_two().max(16);
                self.grow_table(id, capacity, self.trace.entry);
            }
            Keeps::Lru(most) | Keeps::CacheAndLeak(most) => {
                if matches!(self.trace.keeps, Keeps::CacheAndLeak(_)) && self.leaked.insert(token) {
                    self.alloc(3, Some(id), 300);
                }
                self.keep_once(token, id);
                if let Some(at) = self.order.iter().rposition(|known| *known == token) {
                    self.order.remove(at);
                }
                self.order.push_back(token);
                while self.order.len() > most {
                    self.drop_oldest();
                }
            }
            Keeps::Ttl(_) | Keeps::Batch(_) => {
                if !self.entries.contains_key(&token) {
                    self.order.push_back(token);
                }
                self.keep_once(token, id);
            }
            Keeps::WarmUp(requests) => {
                if index < requests {
                    self.entry(id);
                }
            }
            Keeps::Late(from) => {
                if seconds >= from as f64 {
                    self.keep_once(token, id);
                }
            }
            Keeps::PartlyEvicted => {
                if !self.entries.contains_key(&token) {
                    self.keep_once(token, id);
                    if self.chance() < 0.4 {
                        let blocks = self.entries[&token].0.clone();
                        for block in blocks {
                            self.due
                                .insert((Nanos(self.now.0 + 15_000_000_000), block), block);
                        }
                    }
                }
            }
        }
    }

    fn grow_table(&mut self, id: RequestId, capacity: u64, entry: u64) {
        if self.table.is_none_or(|(_, known)| known < capacity) {
            let new = self.alloc(6, Some(id), capacity * entry);
            if let Some((old, _)) = self.table.replace((new, capacity)) {
                self.free(old);
            }
        }
    }

    fn keep_once(&mut self, key: u64, id: RequestId) {
        if !self.entries.contains_key(&key) {
            let blocks = self.entry(id);
            self.entries.insert(key, (blocks, self.now));
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((blocks, _)) = self
            .order
            .pop_front()
            .and_then(|key| self.entries.remove(&key))
        {
            for block in blocks {
                self.free(block);
            }
        }
    }

    fn second(&mut self, at: Nanos, second: u64) {
        self.free_until(at);
        self.observed = second >= self.trace.before;
        match self.trace.keeps {
            Keeps::Timer(entries) => {
                for _ in 0..entries {
                    self.alloc(4, None, self.trace.entry);
                }
            }
            Keeps::StrayTimer(entries) => {
                let latest = (self.truth.requests > 0).then_some(RequestId(self.truth.requests));
                for entry in 0..entries {
                    let request = latest.filter(|_| entry % 10 == 0);
                    self.alloc(4, request, self.trace.entry);
                }
            }
            Keeps::Ttl(seconds) => {
                while let Some((_, born)) = self.order.front().and_then(|key| self.entries.get(key))
                    && at.since(*born) >= seconds
                {
                    self.drop_oldest();
                }
            }
            Keeps::Batch(every) if second.is_multiple_of(every) => {
                while !self.order.is_empty() {
                    self.drop_oldest();
                }
            }
            _ => {}
        }
        let since = second.saturating_sub(self.trace.before);
        if since > 0 && since.is_multiple_of(self.trace.interval) {
            self.snapshot();
        }
    }
}
