//! A process, read from outside: identity, mappings, ELF files, allocators, limits; its plan of probes;
//! its symbols and unwind rules. All parsers of a target's files are here. Nothing is attached or
//! written.

pub mod allocators;
pub mod clocks;
pub mod connections;
pub mod elf;
pub mod ending;
pub mod error;
pub mod files;
pub mod identity;
pub mod inspect;
pub mod limits;
pub mod link;
pub mod maps;
pub mod memory;
pub mod module;
pub mod notes;
pub mod pclntab;
pub mod plan;
pub mod symbols;
pub mod workload;

pub use allocators::AllocatorInstance;
pub use elf::Elf;
pub use error::ProcessError;
pub use inspect::{Inspected, inspect, inspect_until};
pub use maps::Mapping;
pub use module::Module;
