//! What a process is, read from outside: identity, mappings, ELF files, allocators, limits; the plan of
//! probes for it; its symbols and unwind rules. Every parser of a target's files is here. Nothing is
//! attached and nothing written.

pub mod allocators;
pub mod clocks;
pub mod connections;
pub mod elf;
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

pub use allocators::AllocatorInstance;
pub use elf::Elf;
pub use error::ProcessError;
pub use inspect::{Inspected, inspect, inspect_until};
pub use maps::Mapping;
pub use module::Module;
