//! The `METHOD path` of a request, put together in the scan's buffer from bytes of the target.

use aya_ebpf::helpers::generated;
use heaptide_ebpf::{Counter, PATH_LEN};

use super::scan::GoScan;
use crate::maps::{Pending, count};

/// Copies `size` bytes of the target to the scan's data, at offset `at`; whether they could be read.
#[inline(always)]
pub fn copy(scan: &mut GoScan, at: u32, size: u32, from: u64) -> bool {
    let to = (&raw mut scan.scan.data).cast::<u8>();
    // SAFETY: at most 31 + 128 bytes of more than a thousand; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user(to.add((at & 31) as usize).cast(), size, from as *const _)
    };
    if failed != 0 {
        count(Counter::ReadFaults);
    }
    failed == 0
}

/// Appends `len` bytes of the target to the `at` bytes that are in the scan's data, and makes all of them the
/// request's `METHOD path`.
#[inline(always)]
pub fn take(pending: &mut Pending, scan: &mut GoScan, at: u32, from: u64, len: u64) {
    let len = if len > PATH_LEN as u64 {
        PATH_LEN as u32
    } else {
        len as u32
    };
    let size = (len.wrapping_sub(1) & (PATH_LEN as u32 - 1)) + 1;
    if len == 0 || !copy(scan, at, size, from) {
        return;
    }
    let all = at + size;
    pending.path_len = if all > PATH_LEN as u32 {
        PATH_LEN as u32
    } else {
        all
    };
    // SAFETY: the data is longer than a path.
    pending.path = unsafe { *(&raw const scan.scan.data).cast::<[u8; PATH_LEN]>() };
}
