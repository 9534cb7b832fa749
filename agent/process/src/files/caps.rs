//! Caps on reading foreign files. The report names each cap that was reached.

use std::time::Duration;

/// Bytes read and cached at once.
pub const PIECE: usize = 64 << 10;
/// Cached pieces of one file.
pub const PIECES: usize = 16;
/// Bytes of a section that may be read as a whole.
pub const SECTION: u64 = 32 << 20;
/// The same of the notes of static probes, and their number.
pub const NOTES: u64 = 1 << 20;
/// Static probes of one file.
pub const STATIC_PROBES: usize = 4096;
/// Bytes of code read at once: more than any function has.
pub const CODE: usize = 4 << 20;
/// Program headers of a file.
pub const SEGMENTS: u64 = 4096;
/// Section headers of a file.
pub const SECTIONS: u64 = 16_384;
/// Bytes of section names.
pub const SECTION_NAMES: u64 = 1 << 20;
/// Entries of a symbol table; a program of 300 MB has about one million.
pub const SYMBOLS: u64 = 4 << 20;
/// Bytes of a symbol's name.
pub const NAME: usize = 16 << 10;
/// Relocations of the dynamic linker.
pub const RELOCATIONS: u64 = 1 << 20;
/// Functions of a Go table.
pub const GO_FUNCTIONS: usize = 1 << 20;
/// Steps of one table of a Go function.
pub const GO_STEPS: usize = 1 << 16;
/// Mapped files of one process.
pub const MODULES: usize = 1024;
/// Bytes that the inspection of one process may read in walks of whole tables.
pub const WALKED: u64 = 1 << 30;
/// Time of the inspection of one process. It delays all others.
pub const INSPECTION: Duration = Duration::from_secs(5);
/// Bytes refilled per second.
pub const REFILL: u64 = 32 << 20;
/// Bytes of a file that the symbolizer reads.
pub const DEBUG_FILE: u64 = 4 << 30;
/// Bytes of the inflated debug sections of one file.
pub const INFLATED: u64 = 40 << 20;

/// Concurrently hanging file accesses.
pub const STUCK: usize = 16;
/// Timeout of one access, by the number of hanging accesses. The first is long enough for a disk that is busy with
/// something else.
pub const PATIENCE: [(usize, Duration); 3] = [
    (0, Duration::from_millis(1500)),
    (3, Duration::from_millis(100)),
    (STUCK, Duration::from_millis(20)),
];
