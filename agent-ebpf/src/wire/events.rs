//! The other records of the ring: mappings, stack copies, process events, objects of Go's heap.

use super::{layout::records, limits::STACK_COPY_LEN};

records! {
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
    /// Ring record: an object of Go's heap that is followed. No event reports its end: the agent reads that from
    /// the collector's bitmaps.
    GoBlockRecord = 80 {
        /// [`kind::GO_BLOCK`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// Address of the object.
        addr: u64,
        /// Address of the `runtime.mspan` that contains it.
        span: u64,
        /// Size of its size class in bytes.
        size: u64,
        /// Site id.
        site: u64,
        /// Request that was current.
        request: u64,
        /// Birth.
        born_ns: u64,
        /// Bytes that this sample represents, its own included.
        interval: u32,
        /// The span's `sweepgen` at the time.
        sweep: u32,
        /// Address space.
        space: u64,
        /// One of [`crate::binding`].
        binding: u32,
        /// Low 16 bits: free objects of the span at that time. High 16 bits: objects in use.
        slots: u32,
    }
}

/// `kind` of ring records.
pub mod kind {
    /// [`crate::RequestRecord`].
    pub const REQUEST: u32 = 1;
    /// [`crate::VmRecord`].
    pub const VM: u32 = 2;
    /// [`crate::StackCopy`].
    pub const STACK: u32 = 3;
    /// [`crate::LifeRecord`].
    pub const LIFE: u32 = 4;
    /// [`crate::GoBlockRecord`].
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
