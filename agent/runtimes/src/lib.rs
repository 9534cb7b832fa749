//! The supported runtimes: a folder or file each, a line each in `table.rs`. How a process's runtime is
//! recognised, its probes, and what is read of its heap from outside.

mod cpython;
pub mod door;
mod functions;
mod go;
mod named;
pub mod readers;
mod requests;
mod smol;
mod table;
pub mod target;
mod tasks;
mod threads;
mod tokio;

pub use table::{known_versions, programs};
pub use target::{Target, inspect, inspect_until};
