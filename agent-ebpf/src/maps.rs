//! The maps that several modules use, and the records that only the kernel programs use.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use heaptide_ebpf::{
    Block, BlockKey, ConnKey, Counter, CredentialPattern, FaultKey, FaultTotals, INFLIGHT_DEPTH,
    MAX_RULES, MAX_STACKS, PATH_LEN, PythonConfig, PythonThread, ReturnedKey, RuleKey, SLOTS,
    Settings, Stack, TargetConfig, TaskKey, UnwindRule,
    head::{Parser, Scan},
};

/// An allocator call that has not returned yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InFlight {
    /// Address of its return address, which identifies the call when it returns.
    pub sp: u64,
    pub size: u64,
    pub site: u64,
    /// realloc: the old address; `posix_memalign`: where it stores the result.
    pub pointer: u64,
    pub cookie: u64,
    /// The last block that a nested call has entered.
    pub nested: u64,
    /// 1: `old` was removed from the live map, and is entered again if the call fails.
    pub has_old: u32,
    /// 1: enter the result in the live map; 0: sampled out.
    pub keep: u32,
    /// Sampling interval of that decision.
    pub interval: u32,
    pub reserved: u32,
    pub old: Block,
}

/// A call of a `--handler` function.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scope {
    pub sp: u64,
    pub request: u64,
    pub start_ns: u64,
    pub handler: u32,
    pub active: u32,
}

/// Walks remembered per thread.
pub const WALKS: usize = 8;
/// Words of the stack that a remembered walk may span.
pub const WALK_WORDS: usize = 256;
/// Words of the stack that a remembered walk may depend on.
pub const WALK_SLOTS: usize = 40;

/// A remembered walk that was complete, and all it depends on: the same registers, rules and words of the stack give
/// the same site.
#[repr(C)]
pub struct Walk {
    /// The registers it started from; `pc` 0: no walk.
    pub pc: u64,
    pub sp: u64,
    pub bp: u64,
    pub site: u64,
    /// Version of the rules, see `RULES_VERSION`.
    pub rules: u64,
    /// 1: the walk depends on `bp`.
    pub uses_bp: u32,
    /// Used entries of `at` and `words`.
    pub slots: u32,
    /// Number of words, from the one below `sp` upwards, that include all of them.
    pub span: u32,
    pub reserved: u32,
    /// Index of each word, counted from the one below `sp`.
    pub at: [u16; WALK_SLOTS],
    pub words: [u64; WALK_SLOTS],
}

/// State of a thread of a target.
#[repr(C)]
pub struct Thread {
    pub space: u64,
    /// The request that is current for this thread, 0 for none.
    pub request: u64,
    /// The logical task that it polls, 0 for none.
    pub task: u64,
    /// Birth of the block that contains the task (the low 32 bits of ns), 0 if that block is not tracked.
    pub task_born: u64,
    /// Stack pointer at the entry of that poll. Once the stack pointer is above it, the poll has returned, so no
    /// return probe is needed.
    pub task_sp: u64,
    /// The last site whose stack is known to be in `STACKS`. Programs often allocate in loops, so this saves many
    /// lookups.
    pub last_site: u64,
    /// Value of `RULES_VERSION` at that time.
    pub last_version: u64,
    /// Python: a request whose head was read and for which no context was created yet, and the context that was
    /// current then.
    pub fresh: u64,
    pub fresh_in: u64,
    pub tgid: u32,
    pub layout: u32,
    pub flags: u32,
    pub interval: u32,
    /// Open entries of `inflight`.
    pub depth: u32,
    pub binding: u32,
    /// Descriptor of the connection that set `request`.
    pub fd: u32,
    /// 1: the response to `request` was written.
    pub answered: u32,
    /// 1: the thread serves several connections at once.
    pub interleaved: u32,
    /// Index of its target's counters.
    pub slot: u32,
    pub scope: Scope,
    pub inflight: [InFlight; INFLIGHT_DEPTH],
    /// Scratch for the unwinder. Per thread, because uprobe programs can be preempted and per-CPU
    /// scratch would be shared.
    pub stack: Stack,
    /// The kernel tick in which the last block was born, and its birth time.
    pub tick: u64,
    pub born_ns: u64,
    /// Number of words of the stack that the last hit needed; the next one rarely needs more.
    pub span: u64,
    pub walks: [Walk; WALKS],
    /// Scratch: words of the stack from the return address of the call upwards.
    pub words: [u64; WALK_WORDS],
}

/// A request on a connection whose response is not complete.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    pub request: u64,
    pub start_ns: u64,
    pub token: u64,
    pub tail: u64,
    pub task: u64,
    pub response_bytes: u64,
    pub sent_ns: u64,
    /// Address of the string with the template of its route; 0: not known.
    pub route: u64,
    pub head_bytes: u32,
    pub body_bytes: u32,
    pub tid: u32,
    pub path_len: u32,
    pub status: u16,
    pub binding: u8,
    pub flags: u8,
    /// 1: its head is complete.
    pub complete: u8,
    /// 1: its response has begun, and a record was sent.
    pub answered: u8,
    pub reserved: u16,
    pub tail_filter: u32,
    pub reserved_end: u32,
    pub path: [u8; PATH_LEN],
}

/// Requests that may be open on one connection at once (pipelining).
pub const PIPELINE: usize = 16;

/// A connection.
#[repr(C)]
pub struct Conn {
    pub generation: u32,
    /// 1: its accept was seen.
    pub accepted: u32,
    /// 1: a valid request line was seen.
    pub http: u32,
    /// Reads that did not begin with a request line.
    pub misses: u32,
    /// Index in `queue` of the oldest open request.
    pub first: u32,
    /// Number of open requests: the one in `front`, and those queued behind it.
    pub open: u32,
    /// 1: a response was seen on it.
    pub responds: u32,
    /// Used bytes of `status`.
    pub status_len: u32,
    /// The first bytes of a response, when a system call wrote less than its status line.
    pub status: [u8; 32],
    pub parser: Parser,
    pub front: Pending,
    /// Ids of the open requests; all but the first are in `PIPELINED`.
    pub queue: [u64; PIPELINE],
}

/// The bytes of the system call that returns on this CPU, piece by piece. Tracepoints of system calls run with
/// preemption off.
#[repr(C)]
pub struct Reading {
    /// User address of the piece.
    pub from: u64,
    /// Next element of an `iovec` array.
    pub vector: u64,
    /// Remaining elements of the array.
    pub vectors: u32,
    /// Remaining bytes in the pieces that they describe.
    pub rest: u32,
    /// Length of the piece.
    pub len: u32,
    /// Bytes of the piece taken so far.
    pub taken: u32,
    /// Descriptor of the connection.
    pub fd: u32,
    /// Requests that this system call has begun.
    pub begun: u32,
    /// What counts as a credential. A copy: the scanner needs it at every step.
    pub credential: CredentialPattern,
    pub scan: Scan,
}

/// Capacities are set by the loader.
#[map]
pub static LIVE: HashMap<BlockKey, Block> = HashMap::with_max_entries(1, 0);
/// Frees of blocks that are older than the probes, by size. User space removes those of address spaces that are gone.
#[map]
pub static RETURNED: HashMap<ReturnedKey, u64> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(MAX_STACKS, BPF_F_NO_PREALLOC);
/// Stacks of each target in `STACKS`, by its slot. The programs increment it, and user space sets it after removing
/// some.
#[map]
pub static STACKS_HELD: Array<u64> = Array::with_max_entries(SLOTS as u32, 0);
#[map]
pub static RULES: HashMap<RuleKey, UnwindRule> =
    HashMap::with_max_entries(MAX_RULES, BPF_F_NO_PREALLOC);
/// Changes whenever user space has changed `RULES`, or has removed entries of `STACKS`.
#[map]
pub static RULES_VERSION: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static TARGETS: HashMap<u32, TargetConfig> = HashMap::with_max_entries(4_096, 0);
/// Page faults of targets; user space creates the entries.
#[map]
pub static FAULTS: HashMap<u32, FaultTotals> = HashMap::with_max_entries(4_096, 0);
/// Fresh pages by place since user space has last read them.
#[map]
pub static FAULT_SITES: HashMap<FaultKey, u64> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static PYTHONS: HashMap<u32, PythonConfig> =
    HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);
/// Thread states found earlier.
#[map]
pub static PYTHON_THREADS: LruHashMap<u32, PythonThread> = LruHashMap::with_max_entries(8_192, 0);
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(32_768, BPF_F_NO_PREALLOC);
#[map]
pub static CONNS: LruHashMap<ConnKey, Conn> = LruHashMap::with_max_entries(4_096, 0);
/// Requests that wait behind another one on their connection, by id.
#[map]
pub static PIPELINED: LruHashMap<u64, Pending> = LruHashMap::with_max_entries(2_048, 0);
#[map]
pub static TASKS: LruHashMap<TaskKey, u64> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub static READING: PerCpuArray<Reading> = PerCpuArray::with_max_entries(1, 0);
/// Zeroed values to make new threads and connections from: they do not fit on the BPF stack.
#[map]
pub static BLANK_THREAD: Array<Thread> = Array::with_max_entries(1, 0);
#[map]
pub static BLANK_CONN: Array<Conn> = Array::with_max_entries(1, 0);
#[map]
pub static LAST_REQUEST: Array<u64> = Array::with_max_entries(1, 0);
/// Number of entries of `LIVE`. User space writes it too, so it must be alone in its value.
#[map]
pub static LIVE_BLOCKS: Array<u64> = Array::with_max_entries(1, 0);
/// The same of each target, by its slot. User space corrects it at every snapshot.
#[map]
pub static BLOCKS_HELD: Array<u64> = Array::with_max_entries(SLOTS as u32, 0);
/// Blocks that a target may hold before it is sampled because the map is filling up; set by user space.
#[map]
pub static BLOCKS_SHARE: Array<u64> = Array::with_max_entries(1, 0);
/// The counters of each target, by its slot.
#[map]
pub static COUNTERS: PerCpuArray<[u64; Counter::COUNT]> =
    PerCpuArray::with_max_entries(SLOTS as u32, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Programs for returning system calls, by number; filled by the loader.
#[map]
pub static EXITS: ProgramArray = ProgramArray::with_max_entries(512, 0);

/// Set by the loader before the load; read-only for the programs.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    key: [0; 2],
    tail_key: [0; 4],
    sample_from: 0,
    capacity: 0,
};

/// The settings. Reads are volatile: the compiler must not fold the zeros above.
#[inline(always)]
pub fn settings() -> *const Settings {
    &raw const SETTINGS
}

/// Reads one field of the settings.
#[macro_export]
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: `settings()` points to a static that nothing writes after the load.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::settings()).$field) }
    };
}

/// Adds `by` to a shared number and returns what it was, atomically.
///
/// # Safety
///
/// `number` points into a map value, aligned.
#[inline(always)]
pub unsafe fn fetch_add(number: *mut u64, by: u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(number, by) }
}

/// Adds one to a counter of the current process. For rare events, because it looks up the process.
#[inline(never)]
pub fn count(counter: Counter) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are plain integers written by user space; a torn read is harmless.
    let slot = unsafe { TARGETS.get(tgid) }.map_or(0, |config| config.slot);
    count_in(slot, counter);
}

/// Adds one to a counter of the target with this slot.
#[inline(always)]
pub fn count_in(slot: u32, counter: Counter) {
    if let Some(values) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own values of the array; the index is less than their number.
        unsafe {
            let value = values.cast::<u64>().add(counter as usize);
            *value += 1;
        }
    }
}
