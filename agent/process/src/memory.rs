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

/// Addresses in one call of `process_vm_readv`, at most (`UIO_MAXIOV`).
const MOST_AT_ONCE: usize = 1024;

/// `N` words from each address on; `None` for those that cannot be read.
pub fn many<const N: usize>(pid: u32, addresses: &[u64]) -> Vec<Option<[u64; N]>> {
    let mut all = Vec::with_capacity(addresses.len());
    let mut rest = addresses;
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(MOST_AT_ONCE)];
        let mut words = vec![[0_u64; N]; part.len()];
        let local = libc::iovec {
            iov_base: words.as_mut_ptr().cast(),
            iov_len: size_of_val(words.as_slice()),
        };
        let remote: Vec<libc::iovec> = part
            .iter()
            .map(|address| libc::iovec {
                iov_base: *address as *mut libc::c_void,
                iov_len: N * 8,
            })
            .collect();
        // SAFETY: the local vector describes `words`, which outlives the call; the remote addresses are
        // only looked at by the kernel, in the other process.
        let read = unsafe {
            libc::process_vm_readv(
                pid as libc::pid_t,
                &raw const local,
                1,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        if read < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT) {
            // The process has ended.
            all.extend(rest.iter().map(|_| None));
            break;
        }
        // It ends at the first that cannot be read.
        let whole = usize::try_from(read).unwrap_or(0) / (N * 8);
        all.extend(words.into_iter().take(whole).map(Some));
        if whole < part.len() {
            all.push(None);
        }
        rest = &rest[(whole + 1).min(part.len())..];
    }
    all
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
        let at = here.as_ptr() as u64;
        assert_eq!(
            many::<1>(pid, &[at, 8, at + 16]),
            [Some([7]), None, Some([9])]
        );
    }
}
