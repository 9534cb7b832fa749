//! Reads the target's private memory in chunks into a buffer that is wiped.
//!
//! Only pages that are present and private are read (`/proc/PID/pagemap`), so nothing is faulted or
//! swapped in. Swapped pages are counted.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use memmap2::{Advice, MmapMut};
use tracing::debug;
use zeroize::Zeroize as _;

use super::search::BLOCK;
use heaptide_process::{ProcessError, maps, memory};

const PAGE: u64 = 4096;
/// Bytes read at once: the kernel locks the target's memory map only for a part of that.
const CHUNK: usize = 256 << 10;
/// Bytes of the end of a piece that the next one begins with.
const CARRIED: usize = heaptide_ebpf::tail::WINDOW - 1;
/// Where the target's bytes begin in a piece. Before, it is blank.
pub(super) const BEGIN: usize = BLOCK - CARRIED;
/// The first byte from there on whose address is even: a page begins at [`BLOCK`].
pub(super) const EVEN: usize = BEGIN + CARRIED % 2;
/// Pages whose state is read at once.
const PAGES: usize = 4096;
/// Page flags: present, swapped, file or shared (pagemap, Documentation/admin-guide/mm).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const NOT_ITS_OWN: u64 = 1 << 61;

/// Why memory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The process.
    #[error(transparent)]
    Target(#[from] ProcessError),
    /// The kernel denies access.
    #[error("the memory of pid {pid} cannot be read: {why}")]
    Refused {
        /// Process.
        pid: u32,
        /// The kernel's error.
        why: io::Error,
    },
    /// The buffer cannot be allocated.
    #[error("cannot allocate a buffer for the search for tokens: {0}")]
    Buffer(io::Error),
}

/// A buffer for other processes' memory: never swapped, not in core dumps, wiped after use.
pub(super) struct Buffer(MmapMut);

impl Buffer {
    /// Space for the carried-over bytes, a chunk, and a block of padding.
    pub(super) fn new() -> Result<Self, MemoryError> {
        let map = MmapMut::map_anon(BLOCK + CHUNK + BLOCK).map_err(MemoryError::Buffer)?;
        map.advise(Advice::DontDump).map_err(MemoryError::Buffer)?;
        if let Err(why) = map.lock() {
            // Because of RLIMIT_MEMLOCK; the buffer is used too often to be swapped out.
            debug!("cannot lock the buffer for the search for tokens: {why}");
        }
        Ok(Self(map))
    }

    /// The space.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Wipes the buffer.
    pub(super) fn wipe(&mut self) {
        // By words: wiping by bytes takes as long as the search.
        let (before, words, after) = bytemuck::pod_align_to_mut::<u8, u64>(&mut self.0);
        before.zeroize();
        words.zeroize();
        after.zeroize();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Result of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes searched.
    pub(super) bytes: u64,
    /// Bytes that are swapped out and not searched.
    pub(super) swapped: u64,
    /// Address at which to continue, if it ended early.
    pub(super) resume: Option<u64>,
}

/// Reads the private writable memory of `pid` from address `from` upwards. `look` gets it in pieces whose
/// length is a multiple of [`BLOCK`], padded with zeros. A piece begins with the last 15 bytes of the
/// previous one if they are adjacent. `look` returns whether to continue.
pub(super) fn read(
    pid: u32,
    from: u64,
    buffer: &mut Buffer,
    look: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Read, MemoryError> {
    let refused = |why| MemoryError::Refused { pid, why };
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).map_err(refused)?;
    let mut done = Read::default();
    let mut states = vec![0_u64; PAGES];
    for mapping in maps::read(pid)? {
        // Reading device memory may have side effects.
        if !mapping.writable || mapping.end <= from || mapping.path.starts_with("/dev/") {
            continue;
        }
        let mut at = mapping.start.max(from);
        while at < mapping.end {
            let pages = ((mapping.end - at) / PAGE).min(PAGES as u64) as usize;
            let bytes = bytemuck::cast_slice_mut(states.get_mut(..pages).unwrap_or_default());
            let got = pagemap.read_at(bytes, at / PAGE * 8).map_err(refused)? / 8;
            if got == 0 {
                break;
            }
            let states = states.get(..got).unwrap_or_default();
            done.swapped +=
                PAGE * states.iter().filter(|state| *state & SWAPPED != 0).count() as u64;
            let mut first = 0;
            for run in states.chunk_by(|one, two| own(*one) == own(*two)) {
                let start = at + first as u64 * PAGE;
                first += run.len();
                if !run.first().is_some_and(|state| own(*state)) {
                    continue;
                }
                let end = start + run.len() as u64 * PAGE;
                if let Some(resume) = read_run(pid, start..end, buffer, &mut done, look)? {
                    done.resume = Some(resume);
                    return Ok(done);
                }
            }
            at += got as u64 * PAGE;
        }
    }
    Ok(done)
}

fn own(state: u64) -> bool {
    state & (PRESENT | NOT_ITS_OWN) == PRESENT
}

/// Reads adjacent pages. Returns the address at which to continue if `look` stopped.
fn read_run(
    pid: u32,
    range: std::ops::Range<u64>,
    buffer: &mut Buffer,
    done: &mut Read,
    look: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Option<u64>, MemoryError> {
    // The block before the chunk ends with the carried-over bytes; its beginning is blank.
    let mut at = range.start;
    let mut carried = [0; CARRIED];
    while at < range.end {
        let wanted = ((range.end - at) as usize).min(CHUNK);
        let got = match copy(pid, at, &mut buffer.0[BLOCK..BLOCK + wanted]) {
            Ok(got) => got,
            Err(why) if why.raw_os_error() == Some(libc::EFAULT) => break,
            Err(why) => return Err(MemoryError::Refused { pid, why }),
        };
        if got == 0 {
            break;
        }
        let end = BLOCK + got;
        let padded = end.next_multiple_of(BLOCK);
        buffer.0[end..padded].fill(0);
        buffer.0[BEGIN..BLOCK].copy_from_slice(&carried);
        let enough = !look(&buffer.0[..padded]);
        carried.copy_from_slice(&buffer.0[end - CARRIED..end]);
        done.bytes += got as u64;
        at += got as u64;
        if enough {
            carried.zeroize();
            return Ok(Some(at));
        }
        if got < wanted {
            // The rest was unmapped meanwhile.
            break;
        }
    }
    carried.zeroize();
    Ok(None)
}

/// Copies memory of another process, as much as is readable.
fn copy(pid: u32, at: u64, to: &mut [u8]) -> io::Result<usize> {
    let remote = [libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: to.len(),
    }];
    memory::read_vector(pid, to, &remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In this process: a text across chunks of one mapping is found.
    #[test]
    fn memory_is_seen_without_gaps() {
        let mut own = MmapMut::map_anon(3 * CHUNK).unwrap();
        for (number, word) in own.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (number as u64 ^ 0x5eed_0000_0000_0000).to_le_bytes();
        }
        let start = own.as_ptr() as u64;
        let mut buffer = Buffer::new().unwrap();
        let mut done = Read::default();
        let mut seen = Vec::new();
        let mut pieces = 0;
        let end = read_run(
            std::process::id(),
            start..start + 3 * CHUNK as u64,
            &mut buffer,
            &mut done,
            &mut |piece| {
                assert_eq!(piece.len() % BLOCK, 0);
                let carried = &piece[BLOCK - 15..BLOCK];
                let page = seen.len() as u64 + start;
                assert_eq!((page - (BLOCK - EVEN) as u64) % 2, 0);
                if pieces > 0 {
                    assert_eq!(carried, &seen[seen.len() - 15..]);
                }
                seen.extend_from_slice(&piece[BLOCK..]);
                pieces += 1;
                true
            },
        );
        assert!(matches!(end, Ok(None)));
        assert_eq!((pieces, done.bytes), (3, 3 * CHUNK as u64));
        assert!(seen == own[..], "what was read is what is there");
        buffer.wipe();
        assert!(buffer.0.iter().all(|byte| *byte == 0));
    }

    /// Untouched pages are neither read nor faulted in.
    #[test]
    fn only_what_is_present_is_read() {
        const SIZE: usize = 64 << 20;
        let mut own = MmapMut::map_anon(SIZE).unwrap();
        own[PAGE as usize * 100] = 1;
        let (start, end) = (own.as_ptr() as u64, own.as_ptr() as u64 + SIZE as u64);
        let mut buffer = Buffer::new().unwrap();
        let mut all = 0;
        let done = read(std::process::id(), start, &mut buffer, &mut |piece| {
            all += piece.len();
            true
        })
        .unwrap();
        assert!(done.bytes > 0 && all > 0);
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut states = vec![0_u64; SIZE / PAGE as usize];
        pagemap
            .read_exact_at(bytemuck::cast_slice_mut(&mut states), start / PAGE * 8)
            .unwrap();
        let present = states.iter().filter(|state| **state & PRESENT != 0).count();
        assert!(
            (1..=512).contains(&present),
            "{present} pages of {}",
            (end - start) / PAGE
        );
    }

    #[test]
    fn a_part_is_resumed_where_it_ended() {
        let own = vec![7_u8; 4 * CHUNK];
        let mut buffer = Buffer::new().unwrap();
        let start = own.as_ptr() as u64 / PAGE * PAGE;
        let first = read(std::process::id(), start, &mut buffer, &mut |_| false).unwrap();
        let resume = first.resume.unwrap();
        assert!(resume > start && first.bytes <= CHUNK as u64);
        let gone = read(u32::MAX / 2, 0, &mut buffer, &mut |_| true);
        assert!(gone.is_err(), "a process that is not there");
    }
}
