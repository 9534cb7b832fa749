//! Names and lines are looked up in a separate process. The libraries that parse DWARF, decompress and
//! demangle trust much of a file's contents and map it. Any consequence (an abort, a SIGBUS, an endless
//! loop, a gigabyte) is confined to the helper. It has no capabilities, cannot open files (seccomp), and
//! its memory and time are limited. It receives open files and addresses over a socket and answers with
//! names. If it dies, it is restarted and reads less of the file that caused this.

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
