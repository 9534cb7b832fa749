//! Configuration of a target for the kernel programs, and their state of it.

use super::{layout::records, limits::PATTERN_LEN};

records! {
    /// What the programs do for a target, by tgid.
    TargetConfig = 104 {
        /// Address space, see [`crate::BlockKey`].
        space: u64,
        /// Layout id for unwind rules; forked children share their parent's until they exec.
        layout: u32,
        /// Bits of [`target_flags`].
        flags: u32,
        /// Byte interval from which user space wants sampling, 0: keep everything.
        interval: u32,
        /// Index of its counters, see [`crate::SLOTS`].
        slot: u32,
        /// What counts as a credential in its requests.
        credential: CredentialPattern,
    }
    /// What counts as a credential in a request head.
    CredentialPattern = 80 {
        /// Lower-case header name with its colon, zero-padded.
        header: [u8; PATTERN_LEN],
        /// Lower-case scheme and space (`bearer `), or the cookie's name and `=`, zero-padded.
        scheme: [u8; PATTERN_LEN],
        /// Length of `header`; 0: no header matches, so no credential is seen.
        header_len: u32,
        /// Length of `scheme`; 0: the whole value is the credential.
        scheme_len: u32,
        /// 1: `scheme` names a cookie inside the header. 64 bits align the pattern to 8, which halves the
        /// instructions that copy it.
        cookie: u64,
    }
    /// Page faults of a target that brought it memory of its own, by tgid.
    FaultTotals = 24 {
        /// Pages written for the first time.
        fresh: u64,
        /// Pages copied on write.
        copied: u64,
        /// Time up to which the budget for stacks of faults is spent, see `faults.rs`.
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
    /// How to find a Python target's frames, by tgid; offsets in bytes.
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
        /// Identifies its thread in a thread state.
        thread_id: u32,
        /// The kernel's id in the structure that `thread_id` points to, four bytes; `u32::MAX`: `thread_id` is the id
        /// itself.
        thread_through: u32,
        /// Leads to the current frame in a thread state.
        frame: u32,
        /// The frame in the structure that `frame` points to; `u32::MAX`: `frame` is the frame itself.
        frame_through: u32,
        /// Code object in a frame.
        code: u32,
        /// Caller's frame in a frame.
        previous: u32,
        /// Instruction in a frame.
        instruction: u32,
        /// The instruction is a 4-byte number, in units of two-byte words (0) or bytes (1); `u32::MAX`: it is an
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
        /// Its thread id.
        thread_id: u64,
    }
}

impl CredentialPattern {
    /// The smallest byte that a credential can contain: without a scheme it is the whole value, spaces included.
    #[inline(always)]
    #[must_use]
    pub const fn smallest_byte(&self) -> u8 {
        if self.scheme_len == 0 { b' ' } else { b' ' + 1 }
    }
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
    /// Track requests by probes in Go's net/http, and not by system calls.
    pub const GO_REQUESTS: u32 = 16;
    /// The call stack of an allocation consists of the runtime's own frames, if its thread has any.
    pub const OWN_FRAMES: u32 = 32;
}
