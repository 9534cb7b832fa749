//! Memory of the target.

use aya_ebpf::helpers::bpf_probe_read_user;
use heaptide_ebpf::Counter;

use crate::maps::count;

/// `N` words of the target's memory at `address`; a failure is counted.
#[inline(always)]
pub fn words<const N: usize>(address: u64) -> Option<[u64; N]> {
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(address as *const [u64; N]) } {
        Ok(words) => Some(words),
        Err(_) => {
            count(Counter::ReadFaults);
            None
        }
    }
}
