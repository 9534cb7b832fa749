//! Addresses to frames: unwinding of stack copies, unwind rules for the kernel, names and lines.

mod calls;
mod classify;
mod frames;
mod go;
pub mod helper;
mod names;
mod rules;
mod split;
mod symbolizer;
mod unwinder;

pub use classify::{Origin, classify};
pub use names::normalise;
pub use symbolizer::Symbolizer;
pub use unwinder::{Unwinder, Unwound};

#[cfg(test)]
mod tests;
