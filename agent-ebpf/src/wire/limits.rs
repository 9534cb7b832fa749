//! Sizes shared by kernel and user space.

/// Frames a kernel-side unwind keeps at most, innermost first.
pub const MAX_FRAMES: usize = 32;
/// Bytes of a request's `METHOD path` that are kept; longer paths are cut and flagged.
pub const PATH_LEN: usize = 128;
/// Longest method of a request that is recognised. The longest registered one has 17.
pub const METHOD_LEN: u32 = 24;
/// Bytes of user stack copied for an allocation whose stack the kernel could not unwind.
pub const STACK_COPY_LEN: usize = 4096;
/// Nested allocator calls followed per thread.
pub const INFLIGHT_DEPTH: usize = 8;
/// Bytes of request head that are scanned for the credential.
pub const MAX_HEAD: u32 = 16 * 1024;
/// Longest header (or cookie) name and scheme that can be configured.
pub const PATTERN_LEN: usize = 32;
/// Capacity of the map of stacks.
pub const MAX_STACKS: u32 = 32_768;
/// Maximum stacks of one target, so that others have room.
pub const MAX_STACKS_OF_ONE: u32 = MAX_STACKS / 2;
/// Capacity of the map of unwind rules.
pub const MAX_RULES: u32 = 262_144;
/// Slots for counters. Each target has its own while there are free ones. Slot 0 is shared: it counts what
/// belongs to no target, and targets that found no free slot.
pub const SLOTS: usize = 512;
