//! heaptide's kernel programs. Each module holds one family; all maps are in `maps`.
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
        reason = "small functions must vanish: BPF calls cost and have a depth limit; this is a program, not an API"
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
mod go_blocks;
#[cfg(target_arch = "bpf")]
mod go_headers;
#[cfg(target_arch = "bpf")]
mod go_http2;
#[cfg(target_arch = "bpf")]
mod go_routes;
#[cfg(target_arch = "bpf")]
mod go_scan;
#[cfg(target_arch = "bpf")]
mod go_tasks;
#[cfg(target_arch = "bpf")]
mod http;
#[cfg(target_arch = "bpf")]
mod life;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod python;
#[cfg(target_arch = "bpf")]
mod python_tasks;
#[cfg(target_arch = "bpf")]
mod reading;
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

/// Called by no program: every panic path is compiled out or refused by the verifier.
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
