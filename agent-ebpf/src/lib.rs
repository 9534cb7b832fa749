//! The wire contract: every record that crosses between the kernel programs and the agent.
//!
//! Both halves compile this file, so a layout cannot differ between them. Records hold plain
//! integers only: kernel bytes are copied into them as they are, and the agent's decode stage turns
//! tags into enums after checking them.
// tidy: table
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a BPF call costs more than most of these functions, and calls have a depth limit"
)]
#![allow(
    clippy::cast_lossless,
    reason = "`From` is not const, and the conversions are as many as the integers of the records"
)]

pub mod head;
pub mod sip;
pub mod tail;

/// Frames a kernel-side unwind keeps at most, innermost first.
pub const MAX_FRAMES: usize = 32;
/// Bytes of a request's `METHOD path` that are kept; longer paths are cut and flagged.
pub const PATH_LEN: usize = 128;
/// Bytes of user stack copied for an allocation whose stack the kernel could not unwind.
pub const STACK_COPY_LEN: usize = 4096;
/// Nested allocator calls followed per thread.
pub const INFLIGHT_DEPTH: usize = 8;
/// Bytes of request head that are scanned for the credential.
pub const MAX_HEAD: u32 = 16 * 1024;
/// Longest header (or cookie) name and scheme that can be configured.
pub const PATTERN_LEN: usize = 32;

/// Set in a site id whose stack was copied for unwinding in user space: the id is unique to that one
/// allocation and becomes an alias of the true site once the copy was unwound.
pub const SITE_PROVISIONAL: u64 = 1 << 63;

/// The site id of a stack of return addresses, innermost first, in a layout: both halves compute it.
#[must_use]
pub fn site_hash(layout: u32, frames: &[u64]) -> u64 {
    let mut hash = SITE_SEED ^ u64::from(layout);
    for frame in frames {
        hash = site_step(hash, *frame);
    }
    hash & !SITE_PROVISIONAL
}

/// Start of [`site_hash`].
pub const SITE_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of [`site_hash`].
#[inline(always)]
#[must_use]
pub const fn site_step(hash: u64, frame: u64) -> u64 {
    (hash ^ frame)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

/// Set in [`Stack::layout`] of a stack of Python frames: its entries are those of [`python_frame`].
pub const PYTHON_LAYOUT: u32 = 1 << 31;

/// A frame of Python code in one word: the address of its code object, which is a multiple of 16, and which
/// instruction it is at. An instruction that does not fit is the last that does.
#[inline(always)]
#[must_use]
pub const fn python_frame(code: u64, instruction: u64) -> u64 {
    let most = (1 << 20) - 1;
    let instruction = if instruction > most {
        most
    } else {
        instruction
    };
    (code >> 4 << 20 | instruction) & !SITE_PROVISIONAL
}

/// What [`python_frame`] was made of.
#[must_use]
pub const fn python_place(frame: u64) -> (u64, u64) {
    (frame >> 20 << 4, frame & ((1 << 20) - 1))
}

/// How a probed allocator function takes and gives memory (design.md: call shape).
pub mod shape {
    /// `f(.., size, ..) -> pointer`, optionally `nmemb * size`.
    pub const ALLOC: u8 = 1;
    /// `f(pointer)`.
    pub const FREE: u8 = 2;
    /// `f(old, size) -> pointer`, optionally `nmemb * size`.
    pub const REALLOC: u8 = 3;
    /// `f(&pointer, .., size) -> 0 | errno` (`posix_memalign`).
    pub const ALLOC_OUT: u8 = 4;
}

/// The attach cookie of an allocator probe: which function this is and how to read its arguments.
///
/// Bits: 0-7 shape, 8-15 argument index of the (first) size, 16-23 index of the second factor or
/// 0xff, 24-31 index of the pointer argument, 32-39 allocator number, 40-55 bytes that the prologue
/// has pushed before the probed instruction, 63 the function may throw. An index names the register
/// that holds the argument there: 0 rdi, 1 rsi, 2 rdx, 3 rcx, [`Cookie::RAX`] rax.
///
/// Where a function's result is known before it returns, the size's bits are the number of the
/// register with the result, and the factor's the condition under which it returns from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// No such argument.
    pub const NONE: u8 = 0xff;
    /// The argument index that stands for rax, which compilers use to keep an argument in.
    pub const RAX: u8 = 6;
    const THROWS: u64 = 1 << 63;

    /// The same for a function that may throw.
    #[must_use]
    pub const fn throwing(self) -> Self {
        Self(self.0 | Self::THROWS)
    }
    /// It may throw: a call that never returns is no loss.
    #[must_use]
    pub const fn throws(self) -> bool {
        self.0 & Self::THROWS != 0
    }
    /// Number of the register that holds the result, in the processor's order.
    #[must_use]
    pub const fn result(self) -> u8 {
        self.size()
    }
    /// Low four bits of the opcode of the conditional jump that leads to the return, or
    /// [`Self::NONE`].
    #[must_use]
    pub const fn condition(self) -> u8 {
        self.factor()
    }

    /// Packs a cookie.
    #[must_use]
    pub const fn new(
        shape: u8,
        size: u8,
        factor: u8,
        pointer: u8,
        allocator: u8,
        pushed: u16,
    ) -> Self {
        Self(
            shape as u64
                | (size as u64) << 8
                | (factor as u64) << 16
                | (pointer as u64) << 24
                | (allocator as u64) << 32
                | (pushed as u64) << 40,
        )
    }
    /// One of [`shape`].
    #[must_use]
    pub const fn shape(self) -> u8 {
        self.0 as u8
    }
    /// Index of the size argument.
    #[must_use]
    pub const fn size(self) -> u8 {
        (self.0 >> 8) as u8
    }
    /// Index of the second factor of the size, or [`Self::NONE`].
    #[must_use]
    pub const fn factor(self) -> u8 {
        (self.0 >> 16) as u8
    }
    /// Index of the pointer argument.
    #[must_use]
    pub const fn pointer(self) -> u8 {
        (self.0 >> 24) as u8
    }
    /// Row of the allocator table the function belongs to.
    #[must_use]
    pub const fn allocator(self) -> u8 {
        (self.0 >> 32) as u8
    }
    /// Bytes between the stack pointer at the probed instruction and the return address.
    #[must_use]
    pub const fn pushed(self) -> u16 {
        (self.0 >> 40) as u16
    }
}

/// Layouts of Go's maps.
pub mod go_maps {
    /// Up to Go 1.23 (`runtime.hmap`).
    pub const BUCKETS: u8 = 1;
    /// From 1.24 on (`internal/runtime/maps.Map`).
    pub const GROUPS: u8 = 2;
}

/// The attach cookie of a probe in Go's net/http: offsets in its structures, which differ between versions.
///
/// Bits: 0-15 `conn.bufr`, 16-31 `response.status`, 32-47 `Request.Pattern` or 0, 48-49 one of [`go_maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoCookie(pub u64);

impl GoCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(reader: u16, status: u16, pattern: u16, maps: u8) -> Self {
        Self(reader as u64 | (status as u64) << 16 | (pattern as u64) << 32 | (maps as u64) << 48)
    }
    /// How maps are laid out.
    #[must_use]
    pub const fn maps(self) -> u8 {
        (self.0 >> 48) as u8 & 3
    }
    /// Offset of the buffered reader in a connection.
    #[must_use]
    pub const fn reader(self) -> u64 {
        self.0 & 0xffff
    }
    /// Offset of the status in a response.
    #[must_use]
    pub const fn status(self) -> u64 {
        self.0 >> 16 & 0xffff
    }
    /// Offset of the pattern that a request matched, 0: it has none.
    #[must_use]
    pub const fn pattern(self) -> u64 {
        self.0 >> 32 & 0xffff
    }
}

/// Where an argument of a static probe is found: kind in 2 bits, register in 4 (in the processor's
/// order), whether it has 8 bytes in 1, and an offset or constant in 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand(pub u32);

/// Kinds of an [`Operand`].
pub mod operand {
    /// In a register.
    pub const REGISTER: u32 = 0;
    /// In memory, at a register and an offset.
    pub const MEMORY: u32 = 1;
    /// A constant.
    pub const CONSTANT: u32 = 2;
    /// Bits of an operand.
    pub const BITS: u32 = 20;
}

impl Operand {
    /// `None`: the offset does not fit.
    #[must_use]
    pub const fn new(kind: u32, register: u32, wide: bool, offset: i64) -> Option<Self> {
        if offset < -4096 || offset > 4095 {
            return None;
        }
        let wide = if wide { 1 << 6 } else { 0 };
        Some(Self(
            kind | register << 2 | wide | (offset as u32 & 0x1fff) << 7,
        ))
    }
    /// One of [`operand`].
    #[must_use]
    pub const fn kind(self) -> u32 {
        self.0 & 3
    }
    /// Number of the register.
    #[must_use]
    pub const fn register(self) -> u8 {
        (self.0 >> 2 & 15) as u8
    }
    /// It has 8 bytes, else 4.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.0 >> 6 & 1 != 0
    }
    /// The offset, or the constant.
    #[must_use]
    pub const fn offset(self) -> i32 {
        ((self.0 >> 7) << 19) as i32 >> 19
    }
}

/// Attach cookie of a static probe: up to three arguments, and the row of the allocator table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsdtCookie(pub u64);

impl UsdtCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(operands: [Operand; 3], allocator: u8) -> Self {
        Self(
            operands[0].0 as u64
                | (operands[1].0 as u64) << operand::BITS
                | (operands[2].0 as u64) << (2 * operand::BITS)
                | (allocator as u64) << (3 * operand::BITS),
        )
    }
    /// One of the three.
    #[must_use]
    pub const fn operand(self, index: u32) -> Operand {
        let mask = (1 << operand::BITS) - 1;
        Operand((self.0 >> (index * operand::BITS)) as u32 & mask)
    }
    /// Row of the allocator table.
    #[must_use]
    pub const fn allocator(self) -> u8 {
        (self.0 >> (3 * operand::BITS)) as u8
    }
}

/// The attach cookie of a probe in Go's runtime, which says where its structures have what is looked at.
///
/// Bits: 0-15 `m.curg`, 16-31 `g.atomicstatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoRuntimeCookie(pub u64);

impl GoRuntimeCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(current: u16, status: u16) -> Self {
        Self(current as u64 | (status as u64) << 16)
    }
    /// Offset of the current goroutine in a thread's structure.
    #[must_use]
    pub const fn current(self) -> u64 {
        self.0 & 0xffff
    }
    /// Offset of a goroutine's status.
    #[must_use]
    pub const fn status(self) -> u64 {
        self.0 >> 16 & 0xffff
    }
}

macro_rules! records {
    ($($(#[$meta:meta])* $name:ident = $size:literal { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

records! {
    /// Key of the live map: an address within one address space.
    BlockKey = 16 {
        /// Address the allocator returned.
        addr: u64,
        /// Address space, `tgid << 32 | generation`; the generation grows with every exec.
        space: u64,
    }
    /// A live block.
    Block = 40 {
        /// Requested bytes.
        size: u64,
        /// Site id: a hash of the call stack, see [`SITE_PROVISIONAL`].
        site: u64,
        /// Request that was current at birth, 0 for none.
        request: u64,
        /// Birth, `CLOCK_MONOTONIC` nanoseconds.
        born_ns: u64,
        /// Sampling interval T in bytes at birth: the block was kept with probability
        /// `min(1, size / T)`, so it stands for `max(1, T / size)` blocks. 0: everything is kept.
        interval: u32,
        /// Row of the allocator table.
        allocator: u8,
        /// One of [`binding`].
        binding: u8,
        /// Zero.
        reserved: u16,
    }
    /// A call stack, by site id.
    Stack = 272 {
        /// Return addresses, innermost first; unused entries are 0.
        frames: [u64; MAX_FRAMES],
        /// Process it was seen in.
        tgid: u32,
        /// Used entries of `frames`.
        depth: u32,
        /// 1: the unwinding stopped before the outermost frame for lack of a rule.
        truncated: u32,
        /// Address-space layout the addresses belong to, see [`TargetConfig`].
        layout: u32,
    }
    /// Key of the unwind-rule map: a return address in a layout.
    RuleKey = 16 {
        /// Return address.
        pc: u64,
        /// Layout id.
        layout: u64,
    }
    /// How to leave the frame that a return address lies in (one row of `.eh_frame`, x86-64).
    UnwindRule = 8 {
        /// Offset from the CFA register to the canonical frame address.
        cfa_offset: i32,
        /// Offset from the CFA to the saved `rbp`; 0: `rbp` is unchanged.
        rbp_offset: i16,
        /// One of [`rule`].
        kind: u8,
        /// Zero.
        reserved: u8,
    }
    /// What the programs do for a target, by tgid.
    TargetConfig = 24 {
        /// Address space, see [`BlockKey`].
        space: u64,
        /// Layout id for unwind rules; forked children share their parent's until they exec.
        layout: u32,
        /// Bits of [`target_flags`].
        flags: u32,
        /// Byte interval from which user space wants sampling, 0: keep everything.
        interval: u32,
        /// Where its counters are, see [`SLOTS`].
        slot: u32,
    }
    /// Page faults of a target that brought it memory of its own, by tgid.
    FaultTotals = 24 {
        /// Pages written for the first time.
        fresh: u64,
        /// Pages copied on write.
        copied: u64,
        /// Until when the stacks of faults are paid for, see `faults.rs`.
        paid_ns: u64,
    }
    /// Key of the map of fresh pages by place.
    FaultKey = 24 {
        /// Site id, 0: none was taken.
        site: u64,
        /// Request that was current, 0 for none.
        request: u64,
        /// Process.
        tgid: u64,
    }
    /// Where a Python target's frames are found, by tgid; offsets in bytes.
    PythonConfig = 88 {
        /// Address of `_PyRuntime`.
        runtime: u64,
        /// The target's PID namespace: thread states name threads by their number there.
        namespace_device: u64,
        /// Its inode.
        namespace_inode: u64,
        /// First interpreter in the runtime.
        interpreters: u32,
        /// First thread state in an interpreter.
        threads: u32,
        /// Next thread state in a thread state.
        next: u32,
        /// What names its thread in a thread state.
        thread_id: u32,
        /// The kernel's id in what that leads to, four bytes; `u32::MAX`: that is the id.
        thread_through: u32,
        /// What leads to the current frame in a thread state.
        frame: u32,
        /// The frame in what that leads to, `u32::MAX`: that is the frame.
        frame_through: u32,
        /// Code object in a frame.
        code: u32,
        /// Caller's frame in a frame.
        previous: u32,
        /// Instruction in a frame.
        instruction: u32,
        /// That is a number, four bytes, of units of which a word of two bytes has 1 << this; `u32::MAX`: it is an
        /// address.
        instruction_shift: u32,
        /// Owner in a frame, one byte.
        owner: u32,
        /// Owner of the interpreter's own frames, which have no code.
        entry_owner: u32,
        /// First instruction in a code object.
        bytecode: u32,
        /// Current context (`contextvars`) in a thread state.
        context: u32,
        /// Zero.
        reserved: u32,
    }
    /// A thread's Python state, by tid.
    PythonThread = 16 {
        /// Address of the thread state.
        state: u64,
        /// The thread id it names.
        thread_id: u64,
    }
    /// Key of the connection map.
    ConnKey = 8 {
        /// Process.
        tgid: u32,
        /// File descriptor.
        fd: u32,
    }
    /// Key of the task map: the request of a logical task.
    TaskKey = 16 {
        /// Address of the task (tokio header, Go g).
        task: u64,
        /// Process.
        tgid: u64,
    }

    /// Ring record: a request got its response, or its connection closed. Repeated with a later
    /// `end_ns` while a response is still being streamed.
    RequestRecord = 232 {
        /// [`kind::REQUEST`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// Request id, unique in this run of the agent, never 0.
        request: u64,
        /// First byte of the head read.
        start_ns: u64,
        /// Last response write so far.
        end_ns: u64,
        /// Keyed fingerprint of the credential, 0 for none.
        token: u64,
        /// Bytes of request head.
        head_bytes: u32,
        /// Bytes of request body announced by `Content-Length`.
        body_bytes: u32,
        /// Bytes written in answer so far.
        response_bytes: u64,
        /// Thread that read the head.
        tid: u32,
        /// File descriptor of the connection, or of a handler scope -1.
        fd: i32,
        /// Which use of that file descriptor.
        generation: u32,
        /// HTTP status, 0 when the connection closed unanswered.
        status: u16,
        /// One of [`binding`].
        binding: u8,
        /// Bits of [`request_flags`].
        flags: u8,
        /// For handler scopes the number of the handler, else 0.
        handler: u32,
        /// Used bytes of `path`.
        path_len: u32,
        /// Logical task that carried it, 0 when a plain thread did.
        task: u64,
        /// Keyed fingerprint of the credential's window ([`tail::fingerprint`]), 0 for none.
        tail: u64,
        /// Its filter ([`tail::filter`]).
        tail_filter: u32,
        /// Zero.
        reserved: u32,
        /// `METHOD path` without the query.
        path: [u8; PATH_LEN],
    }
    /// Ring record: a mapping changed.
    VmRecord = 80 {
        /// [`kind::VM`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// One of [`vm`].
        op: u32,
        /// Thread.
        tid: u32,
        /// Address of the (new) mapping, or for brk the new break.
        addr: u64,
        /// Its length in bytes.
        len: u64,
        /// mremap: the old address.
        old_addr: u64,
        /// mremap: the old length.
        old_len: u64,
        /// Request that was current.
        request: u64,
        /// Site id.
        site: u64,
        /// Time.
        at_ns: u64,
        /// Address space.
        space: u64,
    }
    /// Ring record: the addresses on the user stack of an allocation the kernel could not unwind.
    StackCopy = 4160 {
        /// [`kind::STACK`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// The provisional site id.
        site: u64,
        /// First program counter of the walk: a return address unless `exact_pc`.
        pc: u64,
        /// Stack pointer of the frame `pc` lies in; the copy starts here.
        sp: u64,
        /// Its `rbp`.
        bp: u64,
        /// 1: `pc` is the interrupted instruction itself, 0: a return address.
        exact_pc: u32,
        /// Bytes of `bytes` that are valid.
        len: u32,
        /// Layout the addresses belong to.
        layout: u32,
        /// Zero.
        reserved: u32,
        /// The return address that had no rule.
        missing: u64,
        /// The stack from `sp` upwards; words that cannot be user addresses are 0.
        bytes: [u8; STACK_COPY_LEN],
    }
    /// Ring record: a process event.
    LifeRecord = 40 {
        /// [`kind::LIFE`].
        kind: u32,
        /// Process (fork: the parent).
        tgid: u32,
        /// One of [`life`].
        op: u32,
        /// fork: id of the new task, which may be only a thread. Else 0.
        child: u32,
        /// Time.
        at_ns: u64,
        /// Address space after the event.
        space: u64,
        /// Zero.
        reserved: u64,
    }
    /// Ring record: an object of Go's heap that is followed. Who follows it looks it up in the collector's
    /// own books: nothing tells of its end.
    GoBlockRecord = 80 {
        /// [`kind::GO_BLOCK`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// Where it lies.
        addr: u64,
        /// The `runtime.mspan` it lies in.
        span: u64,
        /// Its bytes: those of its size class.
        size: u64,
        /// Site id.
        site: u64,
        /// Request that was current.
        request: u64,
        /// Birth.
        born_ns: u64,
        /// Bytes it stands for, its own included.
        interval: u32,
        /// The span's `sweepgen` at the time.
        sweep: u32,
        /// Address space.
        space: u64,
        /// One of [`binding`].
        binding: u32,
        /// Objects that the span had room for (its low half) and that were in use then (its high half).
        slots: u32,
    }
    /// What counts as a credential and the key of the fingerprint; constant for a load.
    Settings = 136 {
        /// `SipHash` key, random per start.
        key: [u64; 2],
        /// Keys of credentials' windows, random per start; the last two are odd.
        tail_key: [u64; 4],
        /// Lower-case header name with its colon, zero-padded.
        header: [u8; PATTERN_LEN],
        /// Lower-case scheme and space (`bearer `), or the cookie's name and `=`, zero-padded.
        scheme: [u8; PATTERN_LEN],
        /// Length of `header`.
        header_len: u32,
        /// Length of `scheme`; 0: the whole value is the credential.
        scheme_len: u32,
        /// 1: `scheme` names a cookie inside the header.
        cookie: u32,
        /// Live blocks at which sampling begins.
        sample_from: u32,
        /// Capacity of the live map.
        capacity: u32,
        /// Zero.
        reserved: u32,
    }
}

/// `kind` of ring records.
pub mod kind {
    /// [`super::RequestRecord`].
    pub const REQUEST: u32 = 1;
    /// [`super::VmRecord`].
    pub const VM: u32 = 2;
    /// [`super::StackCopy`].
    pub const STACK: u32 = 3;
    /// [`super::LifeRecord`].
    pub const LIFE: u32 = 4;
    /// [`super::GoBlockRecord`].
    pub const GO_BLOCK: u32 = 5;
}

/// `op` of [`VmRecord`].
pub mod vm {
    /// Anonymous mmap.
    pub const MMAP: u32 = 1;
    /// munmap, whole or in part, or a mapping replaced by `MAP_FIXED`.
    pub const MUNMAP: u32 = 2;
    /// mremap.
    pub const MREMAP: u32 = 3;
    /// brk.
    pub const BRK: u32 = 4;
}

/// `op` of [`LifeRecord`].
pub mod life {
    /// A task was created by a target.
    pub const FORK: u32 = 1;
    /// The address space was replaced.
    pub const EXEC: u32 = 2;
    /// The process ended.
    pub const EXIT: u32 = 3;
}

/// How surely a block or request is tied to its request.
pub mod binding {
    /// Not tied.
    pub const NONE: u8 = 0;
    /// By logical task, or by a thread that serves one connection at a time.
    pub const EXACT: u8 = 1;
    /// By a thread that serves several connections at once.
    pub const INFERRED: u8 = 2;
}

/// Bits of [`RequestRecord::flags`].
pub mod request_flags {
    /// The path was longer than [`super::PATH_LEN`].
    pub const PATH_CUT: u8 = 1;
    /// The head was longer than [`super::MAX_HEAD`]: a credential may have been missed.
    pub const HEAD_CUT: u8 = 2;
    /// The connection was already open when the agent attached.
    pub const ATTACHED_LATE: u8 = 4;
    /// The response went on after an earlier record of this request.
    pub const STREAMING: u8 = 8;
}

/// Bits of [`TargetConfig::flags`].
pub mod target_flags {
    /// Track allocations.
    pub const ALLOCATIONS: u32 = 1;
    /// Track requests.
    pub const REQUESTS: u32 = 2;
    /// Track mappings.
    pub const MAPPINGS: u32 = 4;
    /// Take the call stacks of allocations and mappings.
    pub const STACKS: u32 = 8;
    /// Track requests by probes in Go's net/http; its system calls are not looked at for requests then.
    pub const GO_REQUESTS: u32 = 16;
}

/// `kind` of [`UnwindRule`].
pub mod rule {
    /// CFA = rsp + offset.
    pub const SP: u8 = 1;
    /// CFA = rbp + offset.
    pub const BP: u8 = 2;
    /// The outermost frame: stop here.
    pub const END: u8 = 3;
    /// No row that the kernel can follow: stop here, the stack is truncated.
    pub const UNKNOWN: u8 = 4;
}

/// Places for counters: each target has one of its own, as long as there are any. The first is for what
/// belongs to no target, and for targets that found no place.
pub const SLOTS: usize = 512;

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Per-CPU counters; the discriminant is the place in a slot of the map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$meta])* $name),* }
        impl Counter {
            /// All counters in index order.
            pub const ALL: &'static [Counter] = &[$(Counter::$name),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// The counter's name in reports and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Counter::$name => $text),* } }
        }
    };
}

counters! {
    /// Allocator entry probes that ran for a target.
    AllocHits = "alloc_hits",
    /// Free probes that ran for a target.
    FreeHits = "free_hits",
    /// Blocks entered into the live map.
    Tracked = "tracked",
    /// Blocks removed from it by a free.
    Freed = "freed",
    /// Blocks left out by sampling.
    SampledOut = "sampled_out",
    /// A free of a block that is not in the live map (older than the attach, or sampled out).
    UnknownFrees = "unknown_frees",
    /// A block appeared at an address that was still live: its free was missed.
    LostFrees = "lost_frees",
    /// An allocator call whose return was never seen.
    MissedReturns = "missed_returns",
    /// Allocator calls nested deeper than [`INFLIGHT_DEPTH`].
    InflightFull = "inflight_full",
    /// The live map refused a block.
    MapFull = "map_full",
    /// The thread map refused a thread.
    ThreadsFull = "threads_full",
    /// The stack map refused a stack.
    StacksFull = "stacks_full",
    /// Stacks cut short for lack of an unwind rule.
    StacksTruncated = "stacks_truncated",
    /// The ring had no room for a record.
    RingFull = "ring_full",
    /// Requests whose head was seen.
    Requests = "requests",
    /// Requests whose response record could not be sent.
    RequestsLost = "requests_lost",
    /// User memory that could not be read.
    ReadFaults = "read_faults",
    /// System calls looked at for a target.
    Syscalls = "syscalls",
    /// The map of fresh pages by place refused one.
    FaultsFull = "faults_full",
    /// Fresh pages whose stack was not taken, because too many came at once.
    FaultsUnsampled = "faults_unsampled",
    /// Stacks of Python frames taken.
    PythonStacks = "python_stacks",
    /// Fresh pages of threads that have no Python frames, or none that could be read.
    PythonMissed = "python_missed",
}
