//! A simulated service without allocator probes: requests at random times, and what censuses, a collector
//! or the process's memory show of its entries.
//!
//! Each trace has its own seed, so errors by chance can be counted.

use std::collections::VecDeque;

use heaptide_judge::events::{
    Binding, Census, Container, Faults, Fingerprint, HeapMark, Lengths, MemorySample, Nanos,
    Observation, Request, RequestId, WriterSite,
};

use super::signal_trace::{Holds, Seen, SignalTrace};

/// Bytes of the process without entries.
const BASE: f64 = 24e6;
/// Number of tokens that are repeated.
const POOL: u64 = 50;

struct World {
    trace: SignalTrace,
    random: u64,
    now: f64,
    entries: f64,
    bytes: f64,
    /// Entries in order: (key, since).
    order: VecDeque<(u64, f64)>,
    seen_tokens: Vec<bool>,
    pool_seen: [bool; POOL as usize],
    fresh: u64,
    served: u64,
    calls: u64,
    peak: f64,
    cleared: f64,
    ticks: Vec<(Nanos, Vec<u64>)>,
    /// Whether requests are traced.
    traced: bool,
    out: Vec<Observation>,
}

/// Generates `trace`.
pub(crate) fn generate(trace: SignalTrace) -> Vec<Observation> {
    let mut world = World {
        trace,
        random: trace.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        now: -trace.before,
        entries: 0.0,
        bytes: 0.0,
        order: VecDeque::new(),
        seen_tokens: Vec::new(),
        pool_seen: [false; POOL as usize],
        fresh: 0,
        served: 0,
        calls: 0,
        peak: 0.0,
        cleared: -trace.before,
        ticks: Vec::new(),
        traced: true,
        out: Vec::new(),
    };
    for _ in 0..8 {
        world.chance();
    }
    let mut next = world.now;
    let mut census = 0.2;
    let mut sample = 0.1;
    // A container is sampled after two censuses have shown it.
    let mut lengths = if trace.looks { 6.0 } else { f64::INFINITY };
    let mut id = 0;
    while world.now < trace.seconds {
        let at = next.min(census).min(sample).min(lengths);
        world.advance(at);
        world.turn();
        if at >= next {
            id += 1;
            world.request(id);
            next += -world.chance().max(1e-12).ln() / trace.rate;
            if next >= trace.stop {
                next = f64::INFINITY;
            }
        } else if at >= lengths {
            world.lengths();
            lengths += 0.05;
        } else if at >= sample {
            world.sample();
            sample += 1.0;
        } else {
            world.read();
            census += 2.9 + 0.4 * world.chance();
        }
    }
    world.out
}

impl World {
    /// 0..1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn nanos(&self) -> Nanos {
        Nanos(1_000_000_000_000 + (self.now.max(0.0) * 1e9) as u64)
    }

    /// A window of request tracing, or a pause, begins.
    fn turn(&mut self) {
        let Some((window, pause)) = self.trace.windows else {
            return;
        };
        let traced = self.now.max(0.0) % (window + pause) < window;
        if traced != self.traced {
            self.traced = traced;
            self.out.push(Observation::Requests(self.nanos(), traced));
        }
    }

    /// Changes that need no request.
    fn advance(&mut self, at: f64) {
        let passed = at - self.now;
        self.now = at;
        match self.trace.holds {
            Holds::Timer(rate) => self.add(rate * passed, self.trace.entry),
            Holds::Ttl(age) => {
                while self.order.front().is_some_and(|entry| at - entry.1 >= age) {
                    self.order.pop_front();
                }
                self.set(self.order.len() as f64);
            }
            Holds::Batch(every) if at - self.cleared >= every => {
                self.cleared += every;
                self.order.clear();
                self.set(0.0);
            }
            Holds::Sawtooth(every) if at - self.cleared >= every => {
                self.cleared += every;
                self.set(0.0);
            }
            Holds::Burst(when) if at >= when => self.peak = self.peak.max(32e6),
            _ => {}
        }
    }

    fn add(&mut self, entries: f64, bytes_each: f64) {
        self.entries += entries;
        self.bytes += entries * bytes_each;
        self.peak = self.peak.max(self.bytes);
    }

    fn set(&mut self, entries: f64) {
        self.entries = entries;
        self.bytes = entries * self.trace.entry;
        self.peak = self.peak.max(self.bytes);
    }

    fn request(&mut self, id: u64) {
        let route = match self.chance() * 11.0 {
            x if x < 6.0 => "GET /api/data",
            x if x < 8.0 => "GET /api/profile",
            x if x < 9.0 => "POST /api/upload",
            x if x < 10.0 => "GET /health",
            _ => "GET /users/17",
        };
        let kind = self.chance();
        let token = if kind < 0.4 {
            self.fresh += 1;
            Some(1_000 + self.fresh)
        } else if kind < 0.8 {
            Some((self.chance() * POOL as f64) as u64)
        } else {
            None
        };
        let body = if route.starts_with("POST") {
            1_024.0 + 15_000.0 * self.chance()
        } else {
            0.0
        };
        self.served += 1;
        self.keep(route, token, body);
        if self.now < 0.0 || !self.traced {
            return;
        }
        let end = Nanos(self.nanos().0 + (self.chance() * 4e6) as u64);
        self.out.push(Observation::Request(Request {
            id: RequestId(id),
            start: self.nanos(),
            end,
            head: route.to_owned(),
            token: token.map(|token| Fingerprint((token + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            status: Some(200),
            binding: Binding::Exact,
            body_bytes: body as u64,
            token_uncertain: false,
            path_cut: false,
            again: false,
        }));
    }

    fn keep(&mut self, route: &str, token: Option<u64>, body: f64) {
        let data = route == "GET /api/data";
        if self.trace.holds == Holds::Bodies && body > 0.0 && token.is_some() {
            self.add(1.0, body);
        }
        let Some(token) = token.filter(|_| data) else {
            return;
        };
        let each = self.trace.entry;
        match self.trace.holds {
            Holds::PerToken | Holds::Both => {
                let more = f64::from(u8::from(self.is_new(token)))
                    + f64::from(u8::from(self.trace.holds == Holds::Both));
                self.add(more, each);
            }
            Holds::PerSubject(tokens) => {
                // Any of the last 100 subjects: users come back after some time.
                let back = (self.chance() * 100.0) as u64;
                let subject = (POOL + token / tokens + 100).saturating_sub(back);
                let more = f64::from(u8::from(self.is_new(subject)));
                self.add(more, each);
            }
            Holds::PerRequest => self.add(1.0, each),
            Holds::OneIn(calls) => {
                self.calls += 1;
                self.add(f64::from(u8::from(self.calls.is_multiple_of(calls))), each);
            }
            Holds::Cycles | Holds::Sawtooth(_) => self.add(9.0, each / 4.0),
            Holds::Lru(most) => {
                match self.order.iter().rposition(|entry| entry.0 == token) {
                    Some(at) => drop(self.order.remove(at)),
                    None if self.order.len() >= most => drop(self.order.pop_front()),
                    None => {}
                }
                self.order.push_back((token, self.now));
                self.set(self.order.len() as f64);
            }
            Holds::Ttl(_) | Holds::Batch(_) => {
                if !self.order.iter().any(|entry| entry.0 == token) {
                    self.order.push_back((token, self.now));
                }
                self.set(self.order.len() as f64);
            }
            Holds::Pool => {
                let needed = (-self.chance().max(1e-9).ln() * 6.0).floor();
                self.set(self.entries.max(needed));
            }
            Holds::WarmUp(requests) if self.served <= requests => self.add(1.0, each),
            Holds::WorkingSet => {
                let level = 40.0 + 30.0 * (self.now / 9.0).sin() + 8.0 * self.chance();
                self.set(level.floor());
            }
            _ => {}
        }
    }

    fn is_new(&mut self, token: u64) -> bool {
        if token < POOL {
            return !std::mem::replace(&mut self.pool_seen[token as usize], true);
        }
        let index = (token - POOL) as usize;
        if self.seen_tokens.len() <= index {
            self.seen_tokens.resize(index + 1, false);
        }
        !std::mem::replace(&mut self.seen_tokens[index], true)
    }

    /// Resident memory never falls, and is read in pages.
    fn resident(&mut self) -> u64 {
        let noise = 40e3 * self.chance();
        ((BASE + self.peak + noise) as u64) & !4095
    }

    fn sample(&mut self) {
        if self.now < 0.0 {
            return;
        }
        let rss = self.resident();
        self.out.push(Observation::Memory(MemorySample {
            at: self.nanos(),
            rss,
            rss_anon: rss,
            limit: Some(self.trace.limit),
            used: rss,
            ..MemorySample::default()
        }));
    }

    fn read(&mut self) {
        if self.now < 0.0 {
            return;
        }
        let at = self.nanos();
        match self.trace.seen {
            Seen::Heap => {
                let noise = 60e3 * self.chance();
                self.out.push(Observation::Heap(HeapMark {
                    at,
                    marked_bytes: (3e6 + self.bytes + noise) as u64,
                    live_bytes: (3e6 + self.bytes + noise) as u64,
                    cycles: (self.now * 2.0) as u64 + 1,
                    collected_at: Some(at),
                }));
            }
            Seen::Faults => {
                let fresh_bytes = self.resident() + 40_960 - BASE as u64;
                self.out.push(Observation::Faults(Faults {
                    at,
                    fresh_bytes,
                    // Pages that the first collection after a fork copies.
                    copied_bytes: (3e5 * self.now) as u64,
                    sites: Vec::new(),
                }));
            }
            Seen::Containers => {
                let census = self.census(at);
                self.out.push(Observation::Census(census));
            }
        }
    }

    /// What grows: path and kind.
    fn kept(&self) -> Option<(&'static str, &'static str)> {
        match self.trace.holds {
            Holds::Nothing | Holds::Burst(_) => None,
            Holds::Cycles | Holds::Sawtooth(_) => Some(("app.Node", "instances")),
            Holds::PerRequest | Holds::OneIn(_) | Holds::Bodies | Holds::Timer(_) => {
                Some(("app.log", "list"))
            }
            _ => Some(("app.cache", "dict")),
        }
    }

    fn lengths(&mut self) {
        let Some((path, kind)) = self.kept().filter(|kept| kept.1 != "instances") else {
            return;
        };
        let at = self.nanos();
        self.ticks.push((at, vec![self.entries as u64]));
        if self.ticks.len() < 20 {
            return;
        }
        self.out.push(Observation::Lengths(Lengths {
            at,
            containers: vec![(path.to_owned(), kind.to_owned())],
            ticks: std::mem::take(&mut self.ticks),
        }));
    }

    fn census(&mut self, at: Nanos) -> Census {
        let row = |path: &str, kind: &str, entries: f64, bytes: Option<f64>| Container {
            path: path.to_owned(),
            kind: kind.to_owned(),
            entries: entries as u64,
            bytes: bytes.map(|bytes| bytes as u64),
            ..Container::default()
        };
        // Containers of any interpreter: constant tables, some of which are reported only sometimes.
        let mut containers: Vec<Container> = (0..24)
            .map(|n| row(&format!("lib.table_{n}"), "dict", 60.0 + f64::from(n), None))
            .collect();
        for n in 0..6 {
            if self.chance() < 0.5 {
                containers.push(row(&format!("lib.small_{n}"), "set", 51.0, None));
            }
        }
        let under_way = 8.0 + (10.0 * self.chance()).floor();
        containers.push(row("web.Headers", "instances", under_way, None));
        containers.push(row("web.Response", "instances", 3.0 * under_way, None));
        let filled = (60.0 + self.now * 2.0).min(128.0);
        containers.push(row(
            "urllib.urlsplit",
            "lru_cache of at most 128",
            filled,
            None,
        ));
        let cut = self.chance() < self.trace.cut;
        if let Some((path, kind)) = self.kept().filter(|_| !cut) {
            let sized = self.trace.sized && kind != "instances";
            let mut kept = row(
                path,
                kind,
                self.entries,
                sized.then_some(self.bytes * self.trace.owned),
            );
            kept.writers = vec![WriterSite {
                function: "fill".to_owned(),
                file: Some("app.py".to_owned()),
                line: Some(17),
                samples: 12,
            }];
            containers.push(kept);
        }
        Census {
            at,
            instances_at: at,
            objects: 30_000,
            torn: u64::from(cut),
            cut,
            containers,
        }
    }
}
