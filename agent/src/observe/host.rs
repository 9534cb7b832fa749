//! The observation of this host: the kernel programs, the attached processes and their probes. Each other file of
//! this folder has one task for it.

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::{Counter, TargetConfig};
use heaptide_judge::events::Observation;
use heaptide_process::plan::{Plan, PlanOptions};
use heaptide_process::{ProcessError, identity};
use heaptide_runtimes::Target;
use heaptide_runtimes::readers::Readers;
use thiserror::Error;
use tracing::warn;

use super::attached::Attached;
use super::options::{SourceOptions, TargetOptions};
use super::residency::Searches;
use super::ring::Ring;
use super::rules::Rules;
use super::slots::Slots;
use super::stacks::Stacks;
use crate::kernel::{Counters, Kernel, KernelError};
use crate::overhead::{call_tracing::CallTracing, probe_set::ProbeSet};
use crate::privileges;

/// Why a process cannot be observed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The process.
    #[error(transparent)]
    Target(#[from] ProcessError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A thread of heaptide cannot be started.
    #[error("cannot start a thread that reads from the kernel programs: {0}")]
    Thread(std::io::Error),
}

impl SourceError {
    /// The kind of error as a word: one of few, for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Target(process) => match process {
                ProcessError::NotPermitted { .. } | ProcessError::Refused { .. } => "not_permitted",
                ProcessError::KernelThread { .. }
                | ProcessError::ThirtyTwoBit { .. }
                | ProcessError::OtherMachine { .. } => "unsupported_process",
                ProcessError::NoSuchProcess { .. } | ProcessError::Ended { .. } => "ended",
                ProcessError::Io { .. } => "unreadable",
            },
            Self::Kernel(kernel) => match kernel {
                KernelError::NotPermitted { .. } => "not_permitted",
                KernelError::Unsupported { .. } => "unsupported_kernel",
                KernelError::Load { .. } | KernelError::Object { .. } => "program_refused",
                KernelError::Attach { .. } => "probe_refused",
                KernelError::Map { .. } | KernelError::Read { .. } => "map",
            },
            Self::Thread(_) => "thread",
        }
    }
}

/// Receives observations with their process.
pub type Sink<'a> = dyn FnMut(u32, Observation) + 'a;

/// The observation of this host.
pub(super) struct Host {
    pub(super) kernel: Kernel,
    pub(super) ring: Ring,
    pub(super) options: SourceOptions,
    pub(super) attached: HashMap<u32, Attached>,
    pub(super) probes: ProbeSet,
    pub(super) calls: CallTracing,
    pub(super) slots: Slots,
    pub(super) rules: Rules,
    pub(super) stacks: Stacks,
    /// Layouts that may have entries in the kernel maps.
    pub(super) layouts: Vec<u32>,
    /// `None`: disabled.
    pub(super) searches: Option<Searches>,
    /// Reads heaps from outside; started with the first readable one.
    pub(super) readers: Option<Readers>,
    /// Children followed since the last call: child, parent.
    pub(super) followed: Vec<(u32, u32)>,
    /// Mapping changes for which there was no room.
    pub(super) lost_mappings: u64,
    next_layout: u32,
    /// Limitations of this host, without those of system calls.
    limitations: Vec<String>,
    /// CPU nanoseconds of an allocation and its free on this host.
    pub(super) pair_cost_ns: f64,
    /// Counters after the calibration, which does not count.
    pub(super) counted: Counters,
}

impl Host {
    /// Loads the kernel programs and attaches what all targets need.
    pub(super) fn new(options: SourceOptions) -> Result<Self, SourceError> {
        let mut kernel = Kernel::load(&options.settings)?;
        let mut limitations = kernel.attach_tracepoints();
        privileges::name_once(&mut limitations);
        for limitation in &limitations {
            warn!("{limitation}");
        }
        let ring = Ring::start(kernel.take_ring()?).map_err(SourceError::Thread)?;
        let searches = options.residency.then(|| Searches::new(&options.settings));
        Ok(Self {
            kernel,
            ring,
            options,
            attached: HashMap::new(),
            probes: ProbeSet::default(),
            calls: CallTracing::default(),
            slots: Slots::new(),
            rules: Rules::default(),
            stacks: Stacks::new(),
            layouts: Vec::new(),
            searches,
            readers: None,
            followed: Vec::new(),
            lost_mappings: 0,
            next_layout: 1,
            limitations,
            pair_cost_ns: 0.0,
            counted: [0; Counter::COUNT],
        })
    }

    /// A new layout id.
    pub(super) fn new_layout(&mut self) -> u32 {
        let layout = self.next_layout;
        self.next_layout += 1;
        self.layouts.push(layout);
        layout
    }

    /// Layouts of the present processes.
    pub(super) fn layouts_in_use(&self) -> HashSet<u32> {
        let running = self.attached.values().filter(|attached| !attached.ended);
        running.map(|attached| attached.config.layout).collect()
    }

    /// Limitations of this host.
    pub(super) fn limitations(&self) -> impl Iterator<Item = &String> {
        self.limitations.iter().chain(self.calls.limitations())
    }

    /// Makes a process a target, or changes its configuration.
    pub(super) fn set_target(&mut self, pid: u32, config: TargetConfig) -> Result<(), KernelError> {
        self.calls.need(&mut self.kernel, config.flags)?;
        self.kernel.set_target(pid, config)
    }

    /// Drops the kernel programs' state of a process's threads.
    pub(super) fn forget_threads(&self, pid: u32) {
        // An ended process has none.
        let threads = identity::threads(pid).unwrap_or_default();
        self.kernel.forget_threads(&threads);
    }

    /// The memory of a process was replaced or is no longer of interest: stops searching it for tokens.
    pub(super) fn forget_tokens(&mut self, pid: u32) {
        if let Some(searches) = &mut self.searches {
            searches.forget(pid);
        }
    }

    /// A process has ended.
    pub(super) fn end(&mut self, pid: u32) {
        if let Some(attached) = self.attached.get_mut(&pid) {
            attached.ended = true;
            self.kernel.remove_target(pid);
            self.forget_tokens(pid);
        }
    }

    /// Ends the observation of a process.
    pub(super) fn detach(&mut self, pid: u32) {
        self.forget_tokens(pid);
        if let Some(readers) = &self.readers {
            readers.forget(pid);
        }
        self.kernel.forget_faults(pid);
        if let Some(attached) = self.attached.remove(&pid) {
            // From here on its probes have no effect.
            self.kernel.remove_target(pid);
            self.forget_threads(pid);
            self.slots.give_back(attached.config.slot);
            self.probes.forget(pid);
        }
    }
}

/// Plans the probes of a target, within or outside of an allocation window.
pub(super) fn plan_of(target: &Target, options: &TargetOptions, allocating: bool) -> Plan {
    target.plan(&PlanOptions {
        allocations: options.allocations && allocating,
        handlers: options.handlers.clone(),
    })
}
