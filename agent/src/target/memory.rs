//! A process's memory, read from outside by `process_vm_readv`: no stop. Nothing is written but on
//! request.

/// Fills all of `into` from `address` of process `pid`; false when that cannot be read.
pub fn read(pid: u32, address: u64, into: &mut [u8]) -> bool {
    if into.is_empty() {
        return true;
    }
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: the local vector describes `into`, which outlives the call; the remote address is only
    // looked at by the kernel, in the other process.
    let read = unsafe {
        libc::process_vm_readv(
            pid as libc::pid_t,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    read == into.len() as isize
}

/// Writes one aligned word. Only where a person has asked for it by a flag that says so.
pub fn write_word(pid: u32, address: u64, value: u64) -> bool {
    let bytes = value.to_le_bytes();
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: the local vector describes `bytes`, which outlives the call and is only read.
    let written = unsafe {
        libc::process_vm_writev(
            pid as libc::pid_t,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    written == bytes.len() as isize
}

/// The word at an address.
pub fn word(pid: u32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    read(pid, address, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

/// `N` words from an address on.
pub fn words<const N: usize>(pid: u32, address: u64) -> Option<[u64; N]> {
    let mut words = [0_u64; N];
    read(pid, address, bytemuck::cast_slice_mut(&mut words)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself_and_refuses_what_is_not_there() {
        let here = [7_u64, 8, 9];
        let pid = std::process::id();
        assert_eq!(words::<3>(pid, here.as_ptr() as u64), Some(here));
        assert_eq!(word(pid, &raw const here[1] as u64), Some(8));
        assert_eq!(word(pid, 8), None);
    }
}
