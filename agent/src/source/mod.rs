//! From kernel to observations: attaches targets, reads ring and maps, follows forks and execs.

use std::{
    collections::{HashMap, HashSet},
    mem,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use heaptide_ebpf::{Counter, Settings, TargetConfig};
use regex::Regex;
use thiserror::Error;
use tracing::{debug, warn};

pub mod calibrate;
mod calls;
mod duty;
mod faults;
mod floor;
mod follow;
mod heaps;
mod libraries;
mod meter;
mod options;
mod probes;
mod reading;
mod regions;
pub mod residency;
mod slots;
mod snapshot;
mod watched;
mod windows;

use crate::{
    decode::{self, Event},
    kernel::{Counters, Kernel, KernelError},
};
use duty::Duty;
use heaptide_judge::events::{Observation, Request, TargetInfo};
use heaptide_process::ProcessError;
pub use heaptide_process::clocks::now;
use heaptide_process::plan::{Plan, PlanOptions, Probe};
use heaptide_runtimes::readers::Readers;
use heaptide_runtimes::{Target, inspect};
use meter::Meter;
pub use options::{TargetOptions, allocations, automatic, budget};
use probes::by_kind;
use residency::Searches;
use slots::Slots;
use watched::Watched;

/// Unwind rules published for a process before its first probe is hit.
const PREFILL: usize = 120_000;

/// How targets are observed.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line, in any combination"
)]
pub struct SourceOptions {
    /// Fingerprint key, credential and map sizes.
    pub settings: Settings,
    /// Probe allocators (mode `trace`); without it only requests and memory are seen (`watch`).
    pub allocations: bool,
    /// Only while memory grows, and not where the objects of a target can be read from outside (`auto`).
    pub automatic: bool,
    /// Part of the target's CPU time that probes may cost; `None`: whatever it is.
    pub budget: Option<f64>,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// Overrides the limit found.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
    /// Take call stacks.
    pub stacks: bool,
    /// Search the targets' memory for tokens of finished requests.
    pub residency: bool,
    /// Switch on the heap profile of Go programs that have none: the one thing that is ever written.
    pub enable_go_profile: bool,
}

/// Why a target cannot be observed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The process.
    #[error(transparent)]
    Target(#[from] ProcessError),
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
    /// The thread that ends the tracing of system calls.
    calls_off: Option<JoinHandle<()>>,
    /// Threads that take probes off processes that are no longer observed.
    releasing: HashMap<u32, JoinHandle<()>>,
    /// Targets whose objects can be read.
    readable: HashSet<u32>,
    /// Children followed since they were last asked for: child, parent.
    followed: Vec<(u32, u32)>,
    /// `None`: switched off.
    searches: Option<Searches>,
    next_layout: u32,
    undecodable: u64,
    /// What no target can be seen of, whatever it is.
    limitations: Vec<String>,
    snapshot_due: Instant,
    /// Reads the heaps of targets that can be read from outside, once there is one.
    readers: Option<Readers>,
    /// CPU nanoseconds that an allocation and its free cost a target on this host.
    pair_cost_ns: f64,
    meter: Meter,
    /// When the requests of each service are seen.
    duties: HashMap<u32, Duty>,
    /// CPU seconds of heaptide itself by the last step of the duties, if there was one.
    own_cpu: Option<f64>,
    slots: Slots,
    /// Counters after the calibration, which does not count.
    counted: Counters,
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
        let searches = options.residency.then(|| Searches::new(&options.settings));
        Ok(Self {
            kernel,
            searches,
            options,
            watched: HashMap::new(),
            own_options: HashMap::new(),
            calls_off: None,
            releasing: HashMap::new(),
            readable: HashSet::new(),
            followed: Vec::new(),
            next_layout: 1,
            undecodable: 0,
            limitations,
            snapshot_due: Instant::now(),
            readers: None,
            pair_cost_ns: 0.0,
            meter: Meter::new(),
            duties: HashMap::new(),
            own_cpu: None,
            slots: Slots::new(),
            counted: [0; Counter::COUNT],
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
        let own = self.own_options.get(&pid).cloned();
        let mut options = own.unwrap_or_else(|| (&self.options).into());
        options.allocations &= !(options.automatic && self.readable.contains(&pid));
        options
    }

    /// Notes whether the objects of a target can be read.
    fn note_readable(&mut self, target: &Target) {
        if target.runtime.observer.settings().readable {
            self.readable.insert(target.pid());
        } else {
            self.readable.remove(&target.pid());
        }
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
        self.join_release(pid);
        let mut target = inspect(pid)?;
        self.note_readable(&target);
        let windows = self.new_windows(pid);
        let allocating = windows.is_none_or(|windows| !windows.paused);
        let mut plan = self.plan(&target, allocating);
        plan.probes.retain(wanted);
        let config = TargetConfig {
            space: u64::from(pid) << 32,
            layout,
            flags: self.flags(pid, &target, allocating),
            interval: 0,
            slot: self.slots.take(),
        };
        // Now, because what cannot be traced is one of its limitations.
        self.trace_calls(config.flags);
        target
            .info
            .limitations
            .extend(self.limitations.iter().cloned());
        target
            .info
            .limitations
            .extend(plan.limitations.iter().cloned());
        self.mode(pid).clone_into(&mut target.info.mode);
        let brk = target.process.heap_end();
        let mut watched = Watched::new(target, config, plan.handlers.clone(), brk)
            .inspect_err(|_| self.slots.give_back(config.slot))?;
        watched.counted = self.kernel.counters(config.slot)?;
        watched.windows = windows;
        watched.seeing = Self::new_seeing(pid);
        if prefill && allocating && self.options_of(pid).allocations && self.options.stacks {
            watched.prefill(&mut self.kernel, PREFILL);
        }
        self.kernel.forget_threads(&watched.target.process.threads);
        self.set_target(pid, config)?;
        let (allocator, other) = by_kind(&plan);
        let attached = self.attach_probes(pid, &allocator);
        let attached = attached.and_then(|links| Ok((links, self.attach_probes(pid, &other)?)));
        (watched.allocator_links, watched.links) = match attached {
            Ok(links) => links,
            Err(why) => {
                self.kernel.remove_target(pid);
                self.slots.give_back(config.slot);
                return Err(why.into());
            }
        };
        if self.options.enable_go_profile {
            watched.enable_profile();
        }
        let info = watched.target.info.clone();
        self.watched.insert(pid, watched);
        self.watch_faults(pid);
        self.read_heap(pid);
        sink(pid, Observation::Target(now(), info));
        if !allocating {
            sink(pid, Observation::Window(now(), false));
        }
        self.sample_one(pid, sink);
        Ok(())
    }

    /// Ends the observation of a process.
    pub fn detach(&mut self, pid: u32) {
        self.own_options.remove(&pid);
        self.readable.remove(&pid);
        self.forget_tokens(pid);
        self.forget_heap(pid);
        self.kernel.forget_faults(pid);
        if let Some(mut watched) = self.watched.remove(&pid) {
            // From here on the probes do nothing. Taking them off takes seconds, because the kernel
            // waits for a grace period at each and does one after the other: the ring must not wait.
            self.kernel.remove_target(pid);
            self.forget_threads(pid);
            self.slots.give_back(watched.config.slot);
            let mut links = mem::take(&mut watched.allocator_links);
            links.append(&mut watched.links);
            self.release(pid, links);
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
                Event::Request {
                    request,
                    handler,
                    window,
                } => {
                    if let Some(searches) = &mut self.searches
                        && let Some((window, token)) = window.zip(request.token)
                    {
                        searches.ended(record.tgid, window, token, request.end);
                    }
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
                Event::Picked(object) => watched.picked(&object),
            }
        }
        for watched in self.watched.values_mut().filter(|watched| !watched.ended) {
            watched.watch_objects(&mut self.kernel, now());
        }
        self.meet_new_programs(sink);
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

    fn plan(&self, target: &Target, allocating: bool) -> Plan {
        let own = self.options_of(target.pid());
        let allocations = own.allocations && allocating;
        let options = PlanOptions {
            allocations,
            handlers: own.handlers,
        };
        target.plan(&options)
    }

    fn new_layout(&mut self) -> u32 {
        let layout = self.next_layout;
        self.next_layout += 1;
        layout
    }

    fn mode(&self, pid: u32) -> &'static str {
        let options = self.options_of(pid);
        match (options.allocations, options.budget) {
            (false, _) => "watch",
            (true, None) => "trace",
            (true, Some(_)) if options.automatic => "auto",
            (true, Some(_)) => "sample",
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
