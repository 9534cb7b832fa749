//! The loaded kernel programs and their maps. Only this module and the source know aya.

use std::{
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use heaptide_ebpf::{Block, BlockKey, Cookie, Counter, ReturnedKey, Settings, Stack, TargetConfig};
use tracing::debug;

pub mod attach;
mod batch;
mod data;
mod error;
mod events;
mod faults;
mod keys;
mod multi;
mod programs;
mod raw;
mod rights;
pub mod ring;
mod shares;
pub mod spent;
mod stacks;
mod tracefs;
mod tracepoints;

pub use attach::{Link, perf_events_refused};
pub use error::KernelError;
use faults::FaultMaps;
use programs::{Kind, OBJECT, Programs};
use raw::{Runs, Wire};
pub use rights::wants_admin;
use ring::KernelRing;
use shares::Shares;
use stacks::StackMaps;
pub use tracefs::{look_up_events, tracefs_mounted, tracefs_readable};

use heaptide_process::plan::programs::{ALLOC_ENTER, ALLOC_RETURN, PROGRAMS};
use heaptide_process::plan::{Probe, Program};

/// Values of [`Counter::ALL`].
pub type Counters = [u64; Counter::COUNT];

/// Programs attached by probes of a plan.
fn of_probes() -> impl Iterator<Item = Program> {
    PROGRAMS
        .iter()
        .copied()
        .chain(heaptide_runtimes::programs())
}

/// With uprobe sessions, this program handles both entries and returns of allocators.
const SESSION: &str = "alloc_session";

/// The program that only counts.
const COUNTING: &str = "count_hit";

/// The loaded kernel programs. Dropping it detaches all probes.
pub struct Kernel {
    live: HashMap<MapData, Wire<BlockKey>, Wire<Block>>,
    stacks: HashMap<MapData, u64, Wire<Stack>>,
    stack_maps: StackMaps,
    shares: Shares,
    /// Kept open for `rules_fd`.
    _rules: Map,
    _threads: Map,
    threads_fd: RawFd,
    targets: HashMap<MapData, u32, Wire<TargetConfig>>,
    live_blocks: Array<MapData, u64>,
    rules_version: Array<MapData, u64>,
    counters: PerCpuArray<MapData, [u64; Counter::COUNT]>,
    faults: FaultMaps,
    /// `None` after it was taken.
    ring: Option<KernelRing>,
    capacity: u32,
    /// Descriptors of `live` and `rules`, for the batch calls.
    live_fd: RawFd,
    rules_fd: RawFd,
    batch: batch::Batch<BlockKey, Block>,
    returned_fd: RawFd,
    returned_batch: batch::Batch<ReturnedKey, u64>,
    tracepoints: Vec<Link>,
    /// Links of system-call tracepoints.
    calls: Vec<Link>,
    /// Descriptors of all maps, which live as long as this.
    maps: Vec<RawFd>,
    map_bytes: u64,
    programs: Programs,
    /// Owns the programs' descriptors and all other maps.
    ebpf: Ebpf,
    /// The log of the kernel programs.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Creates the maps and loads the programs that are always needed; others are loaded on first use. Needs `CAP_BPF`
    /// and `CAP_PERFMON` (or `CAP_SYS_ADMIN`).
    pub fn load(settings: &Settings) -> Result<Self, KernelError> {
        error::check_capabilities()?;
        raise_memlock();
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::DEBUG)
            .map_max_entries("LIVE", settings.capacity)
            .override_global("SETTINGS", bytemuck::bytes_of(settings), true)
            .load(OBJECT)
            .map_err(|why| KernelError::load("the object", &why))?;
        let programs = Programs::new(&ebpf)?;
        // The log is for debugging heaptide; the programs work without it.
        let logger = EbpfLogger::init(&mut ebpf)
            .inspect_err(|why| debug!("the log of the kernel programs cannot be read: {why}"))
            .ok();
        let descriptors = ebpf.maps().filter_map(|(_, map)| raw::map_fd(map));
        let maps: Vec<RawFd> = descriptors.map(|fd| fd.as_raw_fd()).collect();
        let fd_of = |name| {
            ebpf.map(name)
                .and_then(raw::map_fd)
                .map(|fd| fd.as_raw_fd())
                .ok_or(KernelError::Object { what: "map", name })
        };
        let (live_fd, rules_fd) = (fd_of("LIVE")?, fd_of("RULES")?);
        let threads_fd = fd_of("THREADS")?;
        let returned_fd = fd_of("RETURNED")?;
        let stacks_fd = fd_of("STACKS")?;
        let mut take = |name: &'static str| {
            ebpf.take_map(name)
                .ok_or(KernelError::Object { what: "map", name })
        };
        let mapped = |name, why: aya::maps::MapError| KernelError::Map { name, why };
        let live: HashMap<_, Wire<BlockKey>, Wire<Block>> =
            HashMap::try_from(take("LIVE")?).map_err(|why| mapped("LIVE", why))?;
        let mut kernel = Self {
            stacks: HashMap::try_from(take("STACKS")?).map_err(|why| mapped("STACKS", why))?,
            stack_maps: StackMaps::new(stacks_fd),
            shares: Shares::new(&mut take)?,
            _rules: take("RULES")?,
            _threads: take("THREADS")?,
            threads_fd,
            targets: HashMap::try_from(take("TARGETS")?).map_err(|why| mapped("TARGETS", why))?,
            live_blocks: Array::try_from(take("LIVE_BLOCKS")?)
                .map_err(|why| mapped("LIVE_BLOCKS", why))?,
            rules_version: Array::try_from(take("RULES_VERSION")?)
                .map_err(|why| mapped("RULES_VERSION", why))?,
            counters: PerCpuArray::try_from(take("COUNTERS")?)
                .map_err(|why| mapped("COUNTERS", why))?,
            faults: FaultMaps::new(&mut take)?,
            ring: Some(KernelRing(
                RingBuf::try_from(take("EVENTS")?).map_err(|why| mapped("EVENTS", why))?,
            )),
            capacity: settings.capacity,
            live_fd,
            rules_fd,
            batch: batch::Batch::new(4096),
            returned_fd,
            returned_batch: batch::Batch::new(1024),
            tracepoints: Vec::new(),
            calls: Vec::new(),
            map_bytes: raw::bytes_of(&maps),
            maps,
            programs,
            live,
            logger,
            ebpf,
        };
        kernel.load_processes()?;
        Ok(kernel)
    }

    /// Loads those programs of these probes that are not loaded yet.
    pub fn load_programs<'a>(
        &mut self,
        probes: impl IntoIterator<Item = &'a Probe>,
    ) -> Result<(), KernelError> {
        for probe in probes {
            if let Some((name, kind)) = self.runs_at(probe) {
                self.programs.load(&mut self.ebpf, name, kind)?;
            }
        }
        Ok(())
    }

    /// Loads all programs, to check whether the kernel accepts them.
    pub fn load_all(&mut self) -> Result<(), KernelError> {
        let sessions = self.programs.sessions();
        let uprobes = of_probes().filter(|program| !sessions || *program != ALLOC_RETURN);
        let uprobes = uprobes.map(|program| (program.name, Kind::Uprobe));
        let others = [(SESSION, Kind::Session), (COUNTING, Kind::Uprobe)];
        for (name, kind) in uprobes.chain(others) {
            if kind != Kind::Session || sessions {
                self.programs.load(&mut self.ebpf, name, kind)?;
            }
        }
        self.load_calls()
    }

    /// The program at a probe. With uprobe sessions the program at an entry also runs at the return. But a session has
    /// a return probe, and an exception that unwinds through one ends the process.
    fn runs_at(&self, probe: &Probe) -> Option<(&'static str, Kind)> {
        let name = probe.program.name;
        match probe.program {
            ALLOC_RETURN if self.programs.sessions() => None,
            ALLOC_ENTER if self.programs.sessions() && !Cookie(probe.cookie).throws() => {
                Some((SESSION, Kind::Session))
            }
            _ => Some((name, Kind::Uprobe)),
        }
    }

    /// Attaches probes of a plan to one process (all its threads, not its children), in the order of the plan for
    /// different programs.
    pub fn attach(&mut self, pid: u32, probes: &[&Probe]) -> Result<Vec<Link>, KernelError> {
        self.load_programs(probes.iter().copied())?;
        let mut groups: Vec<(&'static str, &Path, Vec<&Probe>)> = Vec::new();
        for probe in probes {
            let Some((name, _)) = self.runs_at(probe) else {
                continue;
            };
            let same = groups
                .iter_mut()
                .find(|group| group.0 == name && group.1 == probe.path);
            match same {
                Some(group) => group.2.push(probe),
                None => groups.push((name, &probe.path, vec![probe])),
            }
        }
        let mut links = Vec::new();
        for (name, _, group) in groups {
            links.extend(self.attach_program(name, pid, &group)?);
        }
        Ok(links)
    }

    /// Attaches the counting program in place of the probe's own, to measure the minimum cost.
    pub fn attach_counting(&mut self, pid: u32, probe: &Probe) -> Result<Vec<Link>, KernelError> {
        self.programs.load(&mut self.ebpf, COUNTING, Kind::Uprobe)?;
        self.attach_program(COUNTING, pid, &[probe])
    }

    /// Attaches a program to probes of one file, by one link or by one each.
    fn attach_program(
        &self,
        name: &'static str,
        pid: u32,
        probes: &[&Probe],
    ) -> Result<Vec<Link>, KernelError> {
        let Some(first) = probes.first() else {
            return Ok(Vec::new());
        };
        let returns = first.program.is_return;
        let runs = match name {
            SESSION => Runs::Session,
            _ if returns => Runs::Return,
            _ => Runs::Entry,
        };
        let links = if let Some(program) = self.programs.multi(name) {
            let link = multi::attach(program, pid, &first.path, probes, runs);
            let link = link.map_err(|why| {
                let symbols: Vec<&str> = probes.iter().map(|probe| &*probe.symbol).collect();
                KernelError::attach(&symbols.join(", "), pid, why)
            })?;
            vec![link.into()]
        } else {
            let program = self.programs.single(name)?;
            let attach = |probe: &&Probe| {
                attach::uprobe(program, pid, probe, returns)
                    .map_err(|why| KernelError::attach(&probe.symbol, pid, why))
            };
            probes.iter().map(attach).collect::<Result<_, _>>()?
        };
        for probe in probes {
            let (symbol, why) = (&probe.symbol, &probe.why);
            debug!(pid, symbol, program = name, why, "attached");
        }
        Ok(links)
    }

    /// The ring of records; can be taken once.
    pub fn take_ring(&mut self) -> Result<KernelRing, KernelError> {
        self.ring.take().ok_or(KernelError::Object {
            what: "map",
            name: "EVENTS",
        })
    }

    /// Kernel memory that the maps hold, bytes.
    pub fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// Updates that number: most maps allocate memory as they fill.
    pub fn measure_maps(&mut self) {
        self.map_bytes = raw::bytes_of(&self.maps);
    }
}

/// Kernels before 5.11 charge maps against `RLIMIT_MEMLOCK`; later ones ignore it.
fn raise_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a pointer to a limit that is valid during the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        debug!("RLIMIT_MEMLOCK cannot be raised; this matters only before Linux 5.11");
    }
}
