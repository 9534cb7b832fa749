//! The wire contract: every record that crosses between the kernel programs and the agent.
//!
//! Kernel and user space compile this crate, so they have the same layouts. Records hold plain integers only. The
//! kernel's bytes are copied into them unchanged; the agent's decode stage checks tags and turns them into enums. The
//! scanner of request heads is here too, so that a test on the host can run it.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a BPF call costs more than most of these functions, and calls have a depth limit"
)]
#![allow(
    clippy::cast_lossless,
    reason = "`From` is not const, and the conversions are as many as the integers of the records"
)]

pub mod head;
pub mod sip;
pub mod tail;
mod wire;

pub use wire::*;
