//! Names and lines are looked up in a process of their own. The libraries that parse DWARF, decompress
//! and demangle believe much of what a file says, and map it: whatever that does to them (an abort, a
//! SIGBUS, an endless loop, a gigabyte) happens in the helper. It has no capabilities, can open nothing
//! (seccomp), and its memory and time are limited. It gets open files and addresses over a socket and
//! answers with names. When it dies it is started again, and the file that it died of is read with less.

mod client;
mod debug;
mod program;
mod protocol;
mod sandbox;
mod server;
mod symbols;

pub(super) use client::{Files, look};
pub use program::run_as;
pub(super) use protocol::{Looked, Place};
pub use server::serve_confined;

#[cfg(test)]
mod tests;
