//! ELF files of a process: headers, contents, symbols.

mod build_id;
mod class;
mod headers;
mod image;
mod sections;
mod strings;
mod symbols;

pub use class::{Class, class_of};
pub use image::{Elf, ElfError};
pub use sections::{Section, Segment};
pub use symbols::Symbol;

#[cfg(test)]
mod tests;
