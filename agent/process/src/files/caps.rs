//! The caps on what is read of foreign files. A cap that applied is said in the report.

use std::time::Duration;

/// Bytes that are read and kept at once.
pub const PIECE: usize = 64 << 10;
/// Pieces of one file that are kept.
pub const PIECES: usize = 16;
/// Bytes of a section that is read as a whole.
pub const SECTION: u64 = 64 << 20;
/// Bytes of code that are read at once: more than any function has.
pub const CODE: usize = 4 << 20;
/// Program headers of a file.
pub const SEGMENTS: u64 = 4096;
/// Section headers of a file.
pub const SECTIONS: u64 = 16_384;
/// Bytes of the names of sections.
pub const SECTION_NAMES: u64 = 1 << 20;
/// Entries of a symbol table; a program of 300 MB has about one million.
pub const SYMBOLS: u64 = 4 << 20;
/// Bytes of a symbol's name.
pub const NAME: usize = 16 << 10;
/// Relocations of the dynamic linker that are read.
pub const RELOCATIONS: u64 = 1 << 20;
/// Functions of Go's own table.
pub const GO_FUNCTIONS: usize = 1 << 20;
/// Steps of one of the tables of a Go function.
pub const GO_STEPS: usize = 1 << 16;
/// Mapped files of one process that are read.
pub const MODULES: usize = 1024;
/// Bytes that the inspection of one process may read in walks of whole tables.
pub const WALKED: u64 = 1 << 30;
/// Bytes by which that is filled up again in a second.
pub const REFILL: u64 = 32 << 20;
/// Bytes of a file that is given to the symbolizer.
pub const DEBUG_FILE: u64 = 4 << 30;
/// Bytes that the compressed debug sections of one file may have when they are inflated.
pub const INFLATED: u64 = 40 << 20;

/// Accesses to files that may hang at the same time.
pub const STUCK: usize = 16;
/// How long one access may take, by how many hang already.
pub const PATIENCE: [(usize, Duration); 3] = [
    (0, Duration::from_millis(400)),
    (3, Duration::from_millis(100)),
    (STUCK, Duration::from_millis(20)),
];
