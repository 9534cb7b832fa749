//! From kernel to observations: attaches targets, reads ring and maps, follows forks and execs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use heaptide_ebpf::{BlockKey, Counter, SITE_PROVISIONAL, Settings, TargetConfig, target_flags};
use regex::Regex;
use thiserror::Error;
use tracing::{debug, info, warn};

pub mod calibrate;
mod options;
mod regions;
mod snapshot;
mod watched;

use crate::{
    decode::{self, Event, Life},
    events::{Losses, Nanos, Observation, Request, Snapshot, TargetInfo},
    kernel::{Kernel, KernelError, Link},
    plan::{Plan, PlanOptions, Probe, Program, plan},
    target::{Target, TargetError, inspect, limits},
};
pub use options::{TargetOptions, allocations};
use snapshot::Groups;
use watched::Watched;

/// Unwind rules published for a process before its first probe is hit.
const PREFILL: usize = 120_000;
/// Snapshots take at most this part of the time (they read the whole live map).
const SNAPSHOT_SHARE: u32 = 50;

/// How targets are observed.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Fingerprint key, credential and map sizes.
    pub settings: Settings,
    /// Probe allocators (mode `trace`); without it only requests and memory are seen (`watch`).
    pub allocations: bool,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// Overrides the limit found.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
    /// Take call stacks.
    pub stacks: bool,
}

/// Why a target cannot be observed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The process.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// All targets and the kernel half.
pub struct Source {
    kernel: Kernel,
    options: SourceOptions,
    watched: HashMap<u32, Watched>,
    /// Options of targets that have their own, and of their children.
    own_options: HashMap<u32, TargetOptions>,
    /// Children followed since they were last asked for: child, parent.
    followed: Vec<(u32, u32)>,
    next_layout: u32,
    undecodable: u64,
    /// What no target can be seen of, whatever it is.
    limitations: Vec<String>,
    snapshot_due: Instant,
    /// CPU nanoseconds that an allocation and its free cost a target on this host.
    pair_cost_ns: f64,
    /// Counters after the calibration, which does not count.
    counted: Vec<u64>,
}

/// What [`Source`] says: which process, and what of it.
pub type Sink<'a> = dyn FnMut(u32, Observation) + 'a;

impl Source {
    /// Loads the kernel half and attaches what serves all targets.
    pub fn new(options: SourceOptions) -> Result<Self, SourceError> {
        let mut kernel = Kernel::load(&options.settings)?;
        let limitations = kernel.attach_tracepoints();
        for limitation in &limitations {
            warn!("{limitation}");
        }
        Ok(Self {
            kernel,
            options,
            watched: HashMap::new(),
            own_options: HashMap::new(),
            followed: Vec::new(),
            next_layout: 1,
            undecodable: 0,
            limitations,
            snapshot_due: Instant::now(),
            pair_cost_ns: 0.0,
            counted: vec![0; Counter::ALL.len()],
        })
    }

    /// Begins to observe a process.
    pub fn attach(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let layout = self.new_layout();
        self.attach_as(pid, layout, true, &|_| true, sink)
    }

    /// The same for a target that is observed in its own way.
    pub fn attach_with(
        &mut self,
        pid: u32,
        options: TargetOptions,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError> {
        self.own_options.insert(pid, options);
        let attached = self.attach(pid, sink);
        if attached.is_err() {
            self.own_options.remove(&pid);
        }
        attached
    }

    /// How a target is observed.
    fn options_of(&self, pid: u32) -> TargetOptions {
        self.own_options
            .get(&pid)
            .cloned()
            .unwrap_or_else(|| (&self.options).into())
    }

    /// The children followed since the last call, each with its parent.
    pub fn take_followed(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.followed)
    }

    /// What no target can be seen of on this host, and why.
    pub fn limitations(&self) -> &[String] {
        &self.limitations
    }

    fn attach_as(
        &mut self,
        pid: u32,
        layout: u32,
        prefill: bool,
        wanted: &dyn Fn(&Probe) -> bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError> {
        let mut target = inspect(pid)?;
        let mut plan = self.plan(&target);
        plan.probes.retain(wanted);
        let config = TargetConfig {
            space: u64::from(pid) << 32,
            layout,
            flags: self.flags(pid),
            interval: 0,
            reserved: 0,
        };
        target
            .info
            .limitations
            .extend(self.limitations.iter().cloned());
        target
            .info
            .limitations
            .extend(plan.limitations.iter().cloned());
        target.info.mode = self.mode(pid).to_owned();
        let brk = heap_end(&target);
        let mut watched = Watched::new(target, config, plan.handlers.clone(), Vec::new(), brk)?;
        if prefill && self.options_of(pid).allocations && self.options.stacks {
            watched.prefill(&mut self.kernel, PREFILL);
        }
        self.kernel.forget_threads(&watched.target.threads);
        self.kernel.set_target(pid, config)?;
        watched.links = match self.attach_probes(pid, &plan) {
            Ok(links) => links,
            Err(why) => {
                self.kernel.remove_target(pid);
                return Err(why.into());
            }
        };
        let info = watched.target.info.clone();
        self.watched.insert(pid, watched);
        sink(pid, Observation::Target(now(), info));
        self.sample_one(pid, sink);
        Ok(())
    }

    /// Attaches a plan's probes. Returns and frees come first: an entry whose return is not probed
    /// yet would be counted as missed.
    fn attach_probes(&self, pid: u32, plan: &Plan) -> Result<Vec<Link>, KernelError> {
        let (last, first): (Vec<&Probe>, Vec<&Probe>) = plan.probes.iter().partition(|probe| {
            matches!(probe.program, Program::AllocEnter | Program::HandlerEnter)
        });
        let mut links = self.kernel.attach(pid, &first)?;
        links.extend(self.kernel.attach(pid, &last)?);
        // Dropped in order: entries go first then, for the same reason.
        links.reverse();
        Ok(links)
    }

    /// Ends the observation of a process.
    pub fn detach(&mut self, pid: u32) {
        self.own_options.remove(&pid);
        if self.watched.remove(&pid).is_some() {
            self.kernel.remove_target(pid);
        }
    }

    /// The processes observed now, ended ones included until they are detached.
    pub fn pids(&self) -> Vec<u32> {
        self.watched.keys().copied().collect()
    }

    /// Whether a process that is observed has ended.
    pub fn ended(&self, pid: u32) -> bool {
        self.watched
            .get(&pid)
            .is_none_or(|watched| watched.ended || !watched.target.is_alive())
    }

    /// Reads the ring: requests, process events, stacks. To be called at least every 50 ms.
    pub fn pump(&mut self, sink: &mut Sink<'_>) {
        let mut records = Vec::new();
        let undecodable = &mut self.undecodable;
        self.kernel.drain(|bytes| match decode::record(bytes) {
            Ok(record) => records.push(record),
            Err(why) => {
                *undecodable += 1;
                debug!("{why}");
            }
        });
        for record in records {
            let Some(watched) = self.watched.get_mut(&record.tgid) else {
                continue;
            };
            match record.event {
                Event::Request(request, handler) => {
                    let request = named(request, handler, &watched.handlers);
                    sink(record.tgid, Observation::Request(request));
                }
                Event::Mapping(mapping) => {
                    if mapping.space == watched.config.space && !watched.regions.apply(&mapping) {
                        self.undecodable += 1;
                    }
                }
                Event::Stack(raw) => watched.unwind(&mut self.kernel, &raw, now()),
                Event::Life(life) => self.life(record.tgid, life, sink),
            }
        }
    }

    fn life(&mut self, pid: u32, life: Life, sink: &mut Sink<'_>) {
        match life {
            Life::Fork { child } => {
                if self.options_of(pid).follow
                    && is_process(child)
                    && !self.watched.contains_key(&child)
                {
                    let layout = self
                        .watched
                        .get(&pid)
                        .map_or(0, |parent| parent.config.layout);
                    if let Some(options) = self.own_options.get(&pid).cloned() {
                        self.own_options.insert(child, options);
                    }
                    match self.attach_as(child, layout, false, &|_| true, sink) {
                        Ok(()) => {
                            self.followed.push((child, pid));
                            info!(pid = child, parent = pid, "following PID {child}");
                        }
                        // Short-lived children are common: a shell command, a helper.
                        Err(why) => {
                            self.own_options.remove(&child);
                            debug!(pid = child, "not followed: {why}");
                        }
                    }
                }
            }
            Life::Exec { at, space } => {
                sink(pid, Observation::Forgotten(at));
                if let Err(why) = self.replace(pid, space, sink) {
                    warn!(pid, "the new program is not observed: {why}");
                }
            }
            Life::Exit { at } => {
                if let Some(watched) = self.watched.get_mut(&pid)
                    && !watched.target.is_alive()
                {
                    watched.ended = true;
                    self.kernel.remove_target(pid);
                    sink(pid, Observation::Ended(at));
                }
            }
        }
    }

    /// After an exec the process is another program.
    fn replace(&mut self, pid: u32, space: u64, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let layout = self.new_layout();
        let mut target = inspect(pid)?;
        let plan = self.plan(&target);
        target
            .info
            .limitations
            .extend(plan.limitations.iter().cloned());
        target.info.mode = self.mode(pid).to_owned();
        let config = TargetConfig {
            space,
            layout,
            flags: self.flags(pid),
            interval: 0,
            reserved: 0,
        };
        let info = target.info.clone();
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.links.clear();
        watched.replaced(target, config, Vec::new())?;
        watched.handlers.clone_from(&plan.handlers);
        self.kernel.set_target(pid, config)?;
        let links = self.attach_probes(pid, &plan)?;
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.links = links;
        }
        sink(pid, Observation::Target(now(), info));
        info!(pid, "following PID {pid} in its new program");
        Ok(())
    }

    /// Reads the live map and says what is live, unless the last reading was so expensive that it is
    /// not due yet. Returns whether it was read.
    pub fn snapshot(&mut self, sink: &mut Sink<'_>) -> Result<bool, SourceError> {
        let begun = Instant::now();
        if begun < self.snapshot_due {
            return Ok(false);
        }
        self.snapshot_now(sink)?;
        self.snapshot_due = Instant::now() + begun.elapsed() * SNAPSHOT_SHARE;
        Ok(true)
    }

    /// The same, due or not.
    pub fn snapshot_now(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let at = now();
        let mut groups: HashMap<u64, Groups> = HashMap::new();
        let mut copies: HashSet<u64> = HashSet::new();
        let mut stale: Vec<BlockKey> = Vec::new();
        let observed: HashSet<u64> = self
            .watched
            .values()
            .filter(|watched| !watched.ended)
            .map(|watched| watched.config.space)
            .collect();
        self.kernel.live_blocks(|key, block| {
            if !observed.contains(&key.space) {
                stale.push(*key);
                return;
            }
            if block.site & SITE_PROVISIONAL != 0 {
                copies.insert(block.site);
            }
            groups.entry(key.space).or_default().add(block);
        })?;
        // The copies of stacks that these blocks refer to are in the ring by now. A process may
        // exec meanwhile: its space is another one then, and its groups are dropped.
        self.pump(sink);
        self.kernel.remove_blocks(&stale);
        for (pid, watched) in &mut self.watched {
            if watched.ended {
                continue;
            }
            let mut all = Vec::new();
            if let Some(groups) = groups.remove(&watched.config.space) {
                watched.resolve_groups(&self.kernel, groups, &mut all, &mut |one| sink(*pid, one));
            }
            all.extend(watched.mappings(&self.kernel, &mut |one| sink(*pid, one)));
            watched.prune(&copies, at);
            sink(*pid, Observation::Snapshot(Snapshot { at, groups: all }));
        }
        Ok(())
    }

    /// Reads memory and losses of every target. To be called every second.
    pub fn sample(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let losses = self.losses()?;
        for pid in self.pids() {
            self.sample_one(pid, sink);
            sink(pid, Observation::Losses(losses));
            if let Some(watched) = self.watched.get_mut(&pid)
                && !watched.ended
                && !watched.target.is_alive()
            {
                watched.ended = true;
                self.kernel.remove_target(pid);
                sink(pid, Observation::Ended(now()));
            }
        }
        Ok(())
    }

    fn sample_one(&self, pid: u32, sink: &mut Sink<'_>) {
        match limits(pid, self.options_of(pid).memory_limit) {
            Ok(sample) => sink(pid, Observation::Memory(sample)),
            Err(why) => debug!(pid, "no memory sample: {why}"),
        }
    }

    /// The kernel's counters by name, since the calibration.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        let now = self.kernel.counters()?;
        let rows = Counter::ALL.iter().zip(now).zip(&self.counted);
        Ok(rows
            .map(|((counter, now), then)| (counter.name(), now - then))
            .collect())
    }

    /// Losses and cost so far.
    pub fn losses(&self) -> Result<Losses, SourceError> {
        let counters = self.kernel.counters()?;
        let of = |counter: Counter| {
            let index = counter as usize;
            counters
                .get(index)
                .zip(self.counted.get(index))
                .map_or(0, |(now, then)| now - then)
        };
        let usage = own_usage();
        let hits = of(Counter::AllocHits) + of(Counter::FreeHits);
        Ok(Losses {
            at: now(),
            alloc_hits: of(Counter::AllocHits),
            free_hits: of(Counter::FreeHits),
            tracked: of(Counter::Tracked),
            freed: of(Counter::Freed),
            sampled_out: of(Counter::SampledOut),
            unknown_frees: of(Counter::UnknownFrees),
            lost_frees: of(Counter::LostFrees),
            missed_returns: of(Counter::MissedReturns),
            inflight_full: of(Counter::InflightFull),
            map_full: of(Counter::MapFull),
            threads_full: of(Counter::ThreadsFull),
            stacks_full: of(Counter::StacksFull),
            stacks_truncated: of(Counter::StacksTruncated),
            ring_full: of(Counter::RingFull) + self.undecodable,
            requests: of(Counter::Requests),
            requests_lost: of(Counter::RequestsLost),
            read_faults: of(Counter::ReadFaults),
            syscalls: of(Counter::Syscalls),
            probe_seconds: hits as f64 / 2.0 * self.pair_cost_ns / 1e9,
            agent_cpu_seconds: usage.0,
            agent_rss: usage.1,
            map_bytes: self.kernel.map_bytes(),
        })
    }

    /// Waits until the ring holds a record that must not wait, or for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd {
            fd: self.kernel.ring_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = timeout.as_millis().min(1000) as libc::c_int;
        // SAFETY: one valid pollfd. An interrupted or failed wait only comes back early.
        unsafe { libc::poll(&raw mut poll, 1, millis) };
    }

    /// What is known of a target.
    pub fn info(&self, pid: u32) -> Option<&TargetInfo> {
        self.watched.get(&pid).map(|watched| &watched.target.info)
    }

    fn plan(&self, target: &Target) -> Plan {
        let own = self.options_of(target.pid());
        let options = PlanOptions {
            allocations: own.allocations,
            handlers: own.handlers,
            tasks: true,
        };
        plan(target, &options)
    }

    fn new_layout(&mut self) -> u32 {
        let layout = self.next_layout;
        self.next_layout += 1;
        layout
    }

    fn flags(&self, pid: u32) -> u32 {
        let requests = target_flags::REQUESTS;
        let stacks = if self.options.stacks {
            target_flags::STACKS
        } else {
            0
        };
        if self.options_of(pid).allocations {
            requests | stacks | target_flags::ALLOCATIONS | target_flags::MAPPINGS
        } else {
            requests
        }
    }

    fn mode(&self, pid: u32) -> &'static str {
        if self.options_of(pid).allocations {
            "trace"
        } else {
            "watch"
        }
    }
}

/// A handler scope has its name in place of a path.
fn named(mut request: Request, handler: Option<u32>, names: &[String]) -> Request {
    if let Some(number) = handler {
        let name = names.get(number as usize).map_or("unknown", String::as_str);
        request.head = format!("handler {name}");
    }
    request
}

/// `CLOCK_MONOTONIC` now: the kernel half's clock.
pub fn now() -> Nanos {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// CPU seconds and resident bytes of the agent itself.
fn own_usage() -> (f64, u64) {
    // SAFETY: zeroed is a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    (
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
        pages * 4096,
    )
}

/// Whether a task is a process of its own, not a thread.
fn is_process(task: u32) -> bool {
    fs::read_to_string(format!("/proc/{task}/status")).is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .is_some_and(|tgid| tgid.trim() == task.to_string())
    })
}

/// Where the program break is now: the end of the heap mapping.
fn heap_end(target: &Target) -> Option<u64> {
    target
        .mappings
        .iter()
        .find(|mapping| mapping.path == "[heap]")
        .map(|heap| heap.end)
}
