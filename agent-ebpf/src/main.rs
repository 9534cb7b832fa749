//! heaptide's kernel programs, a module for each family. Maps that several of them use are in `maps`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// `AtomicU64::fetch_add` does not exist for a target without compare-and-swap; the intrinsic does.
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    allow(internal_features)
)]
#![cfg_attr(
    target_arch = "bpf",
    allow(
        clippy::inline_always,
        missing_docs,
        unreachable_pub,
        reason = "small functions must be inlined: BPF calls cost time and their depth is limited; this is a program, not an API"
    )
)]

#[cfg(target_arch = "bpf")]
mod alloc;
#[cfg(target_arch = "bpf")]
mod answer;
#[cfg(target_arch = "bpf")]
mod condition;
#[cfg(target_arch = "bpf")]
mod faults;
#[cfg(target_arch = "bpf")]
mod go;
#[cfg(target_arch = "bpf")]
mod http;
#[cfg(target_arch = "bpf")]
mod life;
#[cfg(target_arch = "bpf")]
mod live;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod probe;
#[cfg(target_arch = "bpf")]
mod python;
#[cfg(target_arch = "bpf")]
mod python_tasks;
#[cfg(target_arch = "bpf")]
mod reading;
#[cfg(target_arch = "bpf")]
mod request;
#[cfg(target_arch = "bpf")]
mod scope;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod streams;
#[cfg(target_arch = "bpf")]
mod syscalls;
#[cfg(target_arch = "bpf")]
mod thread;
#[cfg(target_arch = "bpf")]
mod usdt;
#[cfg(target_arch = "bpf")]
mod user;

/// Never called: every path to a panic is compiled out, or the verifier refuses the program.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel asks programs that call GPL-only helpers for a GPL-compatible licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {
    // Built for the host only by `cargo check --workspace`; the programs are in the BPF build.
}
