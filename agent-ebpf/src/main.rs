//! The kernel programs; built for the BPF machine by `agent/build.rs`, empty for any other.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    //! A first program, so that the whole way from source to object is exercised.

    use aya_ebpf::macros::uprobe;
    use aya_ebpf::programs::ProbeContext;

    /// Counts nothing yet.
    #[uprobe]
    pub fn alloc_enter(_context: ProbeContext) -> u32 {
        0
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// What the kernel asks of programs that call GPL-only helpers.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
