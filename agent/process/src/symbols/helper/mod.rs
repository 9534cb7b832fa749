//! Names and lines are looked up in a process of their own. The libraries that parse DWARF, decompress
//! and demangle believe much of what a file says, and map it: whatever that does to them (an abort, a
//! SIGBUS, an endless loop, a gigabyte) happens in the helper. It has no capabilities, can open nothing
//! (seccomp), and its memory and time are limited. It gets open files and addresses over a socket and
//! answers with names. When it dies it is started again, and the file that it died of is read with less.

mod client;
mod debug;
mod protocol;
mod sandbox;
mod server;
mod symbols;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

pub(super) use client::{Files, look};
pub(super) use protocol::{Looked, Place};
pub use server::serve_confined;

/// The program that is the helper: a path and its arguments.
static PROGRAM: OnceLock<(PathBuf, Vec<OsString>)> = OnceLock::new();

/// Names the program that is run as the helper; it must call [`serve_confined`]. Without it names are
/// looked up in a thread of this process: for tests.
pub fn run_as(program: PathBuf, arguments: Vec<OsString>) {
    // The first one stays.
    let _ = PROGRAM.set((program, arguments));
}

#[cfg(test)]
mod tests;
