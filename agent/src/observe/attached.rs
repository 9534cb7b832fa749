//! One attached process: options, stacks, mappings.

use std::{collections::HashSet, mem, time::Instant};

use heaptide_ebpf::{Counter, PYTHON_LAYOUT, SITE_PROVISIONAL, Stack, TargetConfig, target_flags};
use tracing::warn;

use super::pace::{Allowance, Pace};
use super::{
    code::Code, copies::Copies, options::TargetOptions, regions::Regions, rules::Rules,
    snapshot::Groups,
};
use crate::{
    decode::RawStack,
    kernel::{Counters, Kernel},
    overhead::{allocation_windows::AllocationWindows, request_tracing::RequestCost},
};
use heaptide_judge::events::{
    Binding, LiveGroup, Losses, MemoryKind, Nanos, Observation, RequestId, Site, SiteId,
};
use heaptide_process::ProcessError;
use heaptide_process::clocks::cpu_time_of;
use heaptide_process::symbols::Symbolizer;
use heaptide_runtimes::{Target, door::PickedObject};

/// One attached process.
#[expect(clippy::struct_excessive_bools, reason = "independent states")]
pub(super) struct Attached {
    pub(super) target: Target,
    /// Its effective options.
    pub(super) options: TargetOptions,
    /// The requested options, before the runtime is considered; children and later programs inherit
    /// them.
    pub(super) asked: TargetOptions,
    /// Files with code that were mapped so far.
    pub(super) code: Code,
    pub(super) config: TargetConfig,
    pub(super) handlers: Vec<String>,
    pub(super) regions: Regions,
    pub(super) ended: bool,
    /// Address space and time of an exec whose new program has not been inspected yet.
    pub(super) exec: Option<(u64, Nanos)>,
    /// Its slot's counters at the attach: another target may have had the slot before.
    pub(super) counted: Counters,
    /// How often its programs are inspected.
    pub(super) pace: Pace,
    /// Children of its service that may be followed now.
    pub(super) children: Allowance,
    /// Children were not followed, because there were too many.
    pub(super) left_children: bool,
    /// For modes with an overhead budget.
    pub(super) windows: Option<AllocationWindows>,
    /// The process to which heaptide was attached, of which this one is a worker; otherwise itself.
    pub(super) service: u32,
    /// When the connections that it serves were counted last.
    pub(super) connections_counted: Option<Instant>,
    /// Its requests are not traced at present.
    pub(super) requests_paused: bool,
    pub(super) requests_cost: RequestCost,
    /// Its unwind rules were published.
    prefilled: bool,
    /// The full map was logged.
    said_full: bool,
    /// Copied stacks and the rules of its layout; a forked child shares its parent's.
    copies: Copies,
    symbolizer: Symbolizer,
    /// Sites already reported.
    announced: HashSet<SiteId>,
}

/// What a process keeps across an exec.
pub(super) struct Before {
    pub(super) slot: u32,
    pub(super) requests_paused: bool,
    counted: Counters,
    service: u32,
    pace: Pace,
    children: Allowance,
}

impl From<Attached> for Before {
    fn from(attached: Attached) -> Self {
        Self {
            slot: attached.config.slot,
            requests_paused: attached.requests_paused,
            counted: attached.counted,
            service: attached.service,
            pace: attached.pace,
            children: attached.children,
        }
    }
}

impl Before {
    pub(super) fn hand_on(self, attached: &mut Attached) {
        attached.counted = self.counted;
        attached.service = self.service;
        attached.pace = self.pace;
        attached.children = self.children;
    }
}

impl Attached {
    pub(super) fn new(
        mut target: Target,
        config: TargetConfig,
        options: TargetOptions,
        asked: TargetOptions,
        handlers: Vec<String>,
        windows: Option<AllocationWindows>,
    ) -> Result<Self, ProcessError> {
        let pid = target.pid();
        target.runtime.observer.begin(config.layout);
        let cpu_seconds = cpu_time_of(pid).unwrap_or_default().as_secs_f64();
        Ok(Self {
            code: Code::of(&target),
            regions: Regions::new(target.process.heap_end()),
            target,
            options,
            asked,
            config,
            handlers,
            ended: false,
            exec: None,
            counted: [0; Counter::COUNT],
            pace: Pace::default(),
            children: Allowance::new(Instant::now()),
            left_children: false,
            windows,
            service: pid,
            connections_counted: None,
            requests_paused: false,
            requests_cost: RequestCost::new(cpu_seconds, Instant::now()),
            prefilled: false,
            said_full: false,
            copies: Copies::of(pid)?,
            symbolizer: Symbolizer::new(pid)?,
            announced: HashSet::new(),
        })
    }

    /// Publishes unwind rules before the first probe is hit. Where the runtime's own frames are walked, few stacks
    /// need any.
    pub(super) fn prefill(&mut self, kernel: &mut Kernel, published: &mut Rules) {
        let frames = self.target.runtime.observer.settings().frames;
        if !mem::replace(&mut self.prefilled, true) && frames.is_none() {
            self.copies.prefill(kernel, published, self.config.layout);
        }
    }

    /// Unwinds a copied stack.
    pub(super) fn unwind(
        &mut self,
        kernel: &mut Kernel,
        published: &mut Rules,
        raw: &RawStack,
        now: Nanos,
    ) {
        let is_own = raw.layout == self.config.layout;
        if is_own
            && self
                .copies
                .unwind(kernel, published, raw, &self.announced, now)
        {
            // The process may have ended; its symbols stay unchanged then.
            let _ = self.symbolizer.refresh();
        }
    }

    /// The true site of a block; reports the site first if it is new.
    pub(super) fn site(
        &mut self,
        kernel: &Kernel,
        raw: u64,
        exact_first: bool,
        sink: &mut dyn FnMut(Observation),
    ) -> SiteId {
        if let Some(own) = self.own_site(kernel, raw, sink) {
            return own;
        }
        let site = if raw & SITE_PROVISIONAL == 0 {
            SiteId(raw)
        } else {
            self.copies.site(raw)
        };
        if self.announced.insert(site) {
            sink(Observation::Site(self.resolve(kernel, site, exact_first)));
        }
        site
    }

    /// The site of a stack of the runtime's own frames; reports it first if it is new. `None`: it is another stack.
    fn own_site(
        &mut self,
        kernel: &Kernel,
        raw: u64,
        sink: &mut dyn FnMut(Observation),
    ) -> Option<SiteId> {
        if raw == 0 || raw & SITE_PROVISIONAL != 0 {
            return None;
        }
        let is_own = |stack: &Stack| stack.layout & PYTHON_LAYOUT != 0;
        let mut stack = || kernel.stack(raw).filter(is_own);
        let (site, new) = self.target.runtime.observer.own_site(raw, 0, &mut stack);
        if let Some(new) = new {
            sink(Observation::Site(new));
        }
        site
    }

    fn resolve(&mut self, kernel: &Kernel, site: SiteId, exact_first: bool) -> Site {
        let (frames, truncated) = self
            .copies
            .take(site)
            .or_else(|| {
                let stack = kernel.stack(site.0)?;
                let depth = (stack.depth as usize).min(stack.frames.len());
                Some((stack.frames[..depth].to_vec(), stack.truncated != 0))
            })
            .unwrap_or_default();
        self.symbolizer
            .resolve(site, &frames, exact_first, truncated || frames.is_empty())
    }

    /// Whether a site was reported, so that its stack is no longer needed.
    pub(super) fn knows(&self, site: u64) -> bool {
        self.announced.contains(&SiteId(site))
    }

    /// Sites of its mappings.
    pub(super) fn sites_of_mappings(&self) -> impl Iterator<Item = u64> {
        self.regions.iter().map(|(_, region)| region.site)
    }

    /// Replaces the kernel's sites by true sites.
    pub(super) fn resolve_groups(
        &mut self,
        kernel: &Kernel,
        groups: Groups,
        all: &mut Vec<LiveGroup>,
        sink: &mut dyn FnMut(Observation),
    ) {
        for mut group in groups.finish() {
            group.site = self.site(kernel, group.site.0, false, sink);
            all.push(group);
        }
    }

    /// Logs once that a kernel map had no room for this process.
    pub(super) fn say_full_maps(&mut self, losses: &Losses) {
        let full = [
            (losses.map_full, "blocks"),
            (losses.stacks_full, "stacks"),
            (losses.threads_full, "threads"),
        ];
        let full = full.iter().filter(|(count, _)| *count > 0);
        let full: Vec<&str> = full.map(|(_, what)| *what).collect();
        if !full.is_empty() && !mem::replace(&mut self.said_full, true) {
            warn!(
                pid = self.target.pid(),
                "there is no more room in the kernel for its {}: what is lost is counted and lowers confidence",
                full.join(" and ")
            );
        }
    }

    /// The mappings as groups.
    pub(super) fn mappings(
        &mut self,
        kernel: &Kernel,
        sink: &mut dyn FnMut(Observation),
    ) -> Vec<LiveGroup> {
        let all: Vec<(u64, u64, Option<RequestId>, Nanos)> = self
            .regions
            .iter()
            .map(|(len, region)| (len, region.site, region.request, region.born))
            .collect();
        all.into_iter()
            .map(|(len, site, request, born)| LiveGroup {
                site: self.site(kernel, site, true, sink),
                request,
                binding: Binding::Inferred,
                born,
                blocks: 1.0,
                bytes: len as f64,
                seen: 1,
                variance: 0.0,
                kind: MemoryKind::Mapping,
                size: 0,
            })
            .collect()
    }

    /// Drops what neither a live block nor a recent copy uses.
    pub(super) fn prune(&mut self, used: &HashSet<u64>, now: Nanos) {
        self.copies.prune(used, now);
    }

    /// Looks for libraries that were loaded since, if stacks ended at addresses in no module.
    pub(super) fn find_libraries(&mut self, kernel: &mut Kernel, published: &mut Rules) {
        if self.copies.step(kernel, published, self.config.layout) {
            let _ = self.symbolizer.refresh();
        }
    }

    /// Tracks an object of the runtime's own heap.
    pub(super) fn picked(&mut self, object: &PickedObject) {
        if object.space == self.config.space {
            self.target.runtime.observer.picked(object);
        }
    }

    /// Checks the tracked objects.
    pub(super) fn watch_objects(&mut self, kernel: &mut Kernel, at: Nanos) {
        let observer = &mut self.target.runtime.observer;
        observer.watch(at);
        let interval = observer.interval();
        if interval > self.config.interval {
            self.config.interval = interval;
            if let Err(why) = kernel.set_target(self.target.pid(), self.config) {
                warn!(
                    pid = self.target.pid(),
                    "cannot lower the sampling rate: {why}"
                );
            }
        }
    }

    /// Adds the live ones to a snapshot.
    pub(super) fn add_objects(&mut self, groups: &mut Groups, at: Nanos) {
        let observer = &mut self.target.runtime.observer;
        observer.live(at, &mut |block| groups.add(block));
    }

    /// Reads the runtime's own statistics of its heap.
    pub(super) fn read_runtime(&mut self, at: Nanos, sink: &mut dyn FnMut(Observation)) {
        let observer = &mut self.target.runtime.observer;
        observer.read(at, &mut self.symbolizer, sink);
        let said = self.symbolizer.limitations();
        if !said.is_empty() {
            let known = &mut self.target.info.limitations;
            for one in said {
                // The inspection may have found it too.
                if !known.contains(&one) {
                    known.push(one);
                }
            }
            sink(Observation::Target(at, self.target.info.clone()));
        }
    }

    /// Enables the runtime's heap profile and reports it.
    pub(super) fn enable_profile(&mut self) {
        if let Some(said) = self.target.runtime.observer.enable_profile() {
            warn!(pid = self.target.pid(), "{said}");
            self.target.info.limitations.push(said);
        }
    }

    /// A new window begins: drops the state of the last one.
    pub(super) fn begin_window(&mut self) {
        self.regions = Regions::new(None);
        self.copies.forget();
        self.target.runtime.observer.forget_objects();
    }

    /// Whether blocks were sampled out since the attach. Then a free of a block that is not in the live map may be of a
    /// sampled-out block instead of an older one.
    pub(super) fn has_sampled_out(&self, counters: &Counters) -> bool {
        let index = Counter::SampledOut as usize;
        counters[index] > self.counted[index]
    }

    /// Allocations are traced at present.
    pub(super) fn allocating(&self) -> bool {
        self.config.flags & target_flags::ALLOCATIONS != 0
    }

    /// Requests are traced at present.
    pub(super) fn requests_traced(&self) -> bool {
        let requests = target_flags::REQUESTS | target_flags::GO_REQUESTS;
        !self.ended && self.config.flags & requests != 0
    }
}
