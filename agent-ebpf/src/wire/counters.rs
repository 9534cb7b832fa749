//! Counters of the kernel programs.

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
    /// Blocks that sampling has left out.
    SampledOut = "sampled_out",
    /// A free of a block that is not in the live map (older than the attach, or sampled out).
    UnknownFrees = "unknown_frees",
    /// The map of frees of older blocks refused one.
    ReturnedFull = "returned_full",
    /// A block appeared at an address that was still live: its free was missed.
    LostFrees = "lost_frees",
    /// An allocator call whose return was never seen.
    MissedReturns = "missed_returns",
    /// Allocator calls nested deeper than [`crate::INFLIGHT_DEPTH`].
    InflightFull = "inflight_full",
    /// The live map refused a block.
    MapFull = "map_full",
    /// The thread map refused a thread.
    ThreadsFull = "threads_full",
    /// The stack map refused a stack, or the target has its share of it.
    StacksFull = "stacks_full",
    /// Stacks copied to user space for lack of an unwind rule.
    StacksCopied = "stacks_copied",
    /// Stacks cut short for lack of an unwind rule.
    StacksTruncated = "stacks_truncated",
    /// The ring had no room for a record.
    RingFull = "ring_full",
    /// Probes of requests and tasks that ran for a target.
    RequestHits = "request_hits",
    /// Requests whose head was seen.
    Requests = "requests",
    /// Requests whose response record could not be sent.
    RequestsLost = "requests_lost",
    /// User memory that could not be read.
    ReadFaults = "read_faults",
    /// System calls examined for a target.
    Syscalls = "syscalls",
    /// The map of fresh pages by place refused one.
    FaultsFull = "faults_full",
    /// Fresh pages whose stack was not taken because the budget for stacks was used up.
    FaultsUnsampled = "faults_unsampled",
    /// Stacks of Python frames taken.
    PythonStacks = "python_stacks",
    /// Fresh pages of threads that have no Python frames, or none that could be read.
    PythonMissed = "python_missed",
}
