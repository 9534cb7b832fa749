//! The only reader of a process's memory: by `process_vm_readv`, without stopping it, within a budget, and only
//! while it is the same process. It writes only on explicit request.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use crate::{clocks, identity};

/// Maximum number of addresses in one `process_vm_readv` (`UIO_MAXIOV`).
const MOST_AT_ONCE: usize = 1024;
/// Steps between two checks of the clock.
const STEPS: u32 = 256;

/// On a busy host the work may take so many times its CPU time, while it waits for a processor.
const WAITING: u32 = 4;

/// Limits of reading. It is used wherever foreign memory determines the amount of work. When it is used up,
/// nothing more is read. Time is CPU time of the thread, and at most [`WAITING`] times that.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: u64,
    objects: u64,
    time: Duration,
    /// CPU time of the thread at the start.
    begun: Duration,
    /// When the CPU time is looked at again.
    until: Instant,
    latest: Instant,
    steps: u32,
    over: bool,
}

impl Budget {
    /// A budget of bytes, objects and time from now.
    pub fn new(bytes: u64, objects: u64, time: Duration) -> Self {
        let now = Instant::now();
        Self {
            bytes,
            objects,
            time,
            begun: clocks::cpu_time(),
            until: now + time,
            latest: now + time * WAITING,
            steps: 0,
            over: false,
        }
    }

    fn is_late(&mut self) -> bool {
        let now = Instant::now();
        if now < self.until {
            return false;
        }
        let used = clocks::cpu_time().saturating_sub(self.begun);
        let left = self.time.saturating_sub(used);
        self.until = now + left;
        left.is_zero() || now >= self.latest
    }

    /// For a few words at known addresses.
    pub fn small() -> Self {
        Self::new(64 << 10, 1024, Duration::from_millis(50))
    }

    /// It is used up.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes bytes; whether they may be read.
    pub fn bytes(&mut self, count: usize) -> bool {
        match self.bytes.checked_sub(count as u64) {
            Some(left) if !self.over && !self.is_late() => self.bytes = left,
            _ => self.over = true,
        }
        !self.over
    }

    /// Takes an object; whether it may be read.
    pub fn object(&mut self) -> bool {
        match self.objects.checked_sub(1) {
            Some(left) => self.objects = left,
            None => self.over = true,
        }
        self.step()
    }

    /// Counts a step of a loop that is limited by time only; whether it may be taken.
    pub fn step(&mut self) -> bool {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) && self.is_late() {
            self.over = true;
        }
        !self.over
    }
}

/// Reads memory of a process.
pub trait Read {
    /// Fills `into` from `address`; false on failure. The data is valid only if [`Read::is_the_same`] holds
    /// afterwards. One check after many reads is sufficient.
    fn read(&mut self, address: u64, into: &mut [u8], budget: &mut Budget) -> bool;

    /// Everything read so far is from the intended process.
    fn is_the_same(&self) -> bool;
}

/// The memory of one process.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: u32,
    /// A pidfd: it does not refer to a later process with the same pid.
    handle: Option<OwnedFd>,
}

impl ProcessMemory {
    /// Memory of the process with this pid and start time. If that process is gone, nothing is read.
    pub fn new(pid: u32, start_ticks: u64) -> Self {
        let handle = open(pid).ok().filter(|_| {
            // The pidfd was opened before this check, so it refers to the process with this start time.
            identity::stat(pid).is_ok_and(|stat| stat.start_ticks == start_ticks)
        });
        Self { pid, handle }
    }

    /// Memory of the process that has this pid now; the caller checks afterwards which one that was.
    pub fn of_pid(pid: u32) -> Self {
        let handle = open(pid).ok();
        Self { pid, handle }
    }

    /// It is still the same process. Its pid is not reused before it is reaped, and the pidfd is readable from
    /// its end on.
    pub fn is_the_same(&self) -> bool {
        let Some(handle) = &self.handle else {
            return false;
        };
        let mut ended = libc::pollfd {
            fd: handle.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, which outlives the call.
        unsafe { libc::poll(&raw mut ended, 1, 0) == 0 }
    }

    /// Fills `into` from `address`; false if that cannot be read.
    pub fn fill(&self, address: u64, into: &mut [u8], budget: &mut Budget) -> bool {
        // Checked after the read: data is from this process only if it has not ended by now.
        self.fill_unchecked(address, into, budget) && self.is_the_same()
    }

    fn fill_unchecked(&self, address: u64, into: &mut [u8], budget: &mut Budget) -> bool {
        if into.is_empty() {
            return true;
        }
        if self.handle.is_none() || !budget.bytes(into.len()) {
            return false;
        }
        let len = into.len();
        let remote = [libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: len,
        }];
        read_vector(self.pid, into, &remote).is_ok_and(|read| read == len)
    }

    /// The word at an address.
    pub fn word(&self, address: u64, budget: &mut Budget) -> Option<u64> {
        self.words::<1>(address, budget).map(|[word]| word)
    }

    /// `N` words from an address.
    pub fn words<const N: usize>(&self, address: u64, budget: &mut Budget) -> Option<[u64; N]> {
        let mut words = [0_u64; N];
        self.fill(address, bytemuck::cast_slice_mut(&mut words), budget)
            .then_some(words)
    }

    /// `N` words from each address; `None` for those that cannot be read.
    pub fn many<const N: usize>(
        &self,
        addresses: &[u64],
        budget: &mut Budget,
    ) -> Vec<Option<[u64; N]>> {
        let mut all = Vec::with_capacity(addresses.len());
        let mut rest = addresses;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(MOST_AT_ONCE)];
            let before = all.len();
            let read = if self.handle.is_some() && budget.bytes(part.len() * N * 8) {
                self.batch(part, &mut all)
            } else {
                None
            };
            let Some(read) = read.filter(|_| self.is_the_same()) else {
                // The process has ended: the last data may be from another process.
                all.truncate(before);
                all.extend(rest.iter().map(|_| None));
                break;
            };
            rest = &rest[read..];
        }
        all
    }

    /// Reads up to the first address that cannot be read, which counts as read; `None` if the process has ended.
    fn batch<const N: usize>(
        &self,
        part: &[u64],
        all: &mut Vec<Option<[u64; N]>>,
    ) -> Option<usize> {
        let mut words = vec![[0_u64; N]; part.len()];
        let remote: Vec<libc::iovec> = part
            .iter()
            .map(|address| libc::iovec {
                iov_base: *address as *mut libc::c_void,
                iov_len: N * 8,
            })
            .collect();
        let into = bytemuck::cast_slice_mut(words.as_flattened_mut());
        let read = match read_vector(self.pid, into, &remote) {
            Ok(read) => read,
            Err(why) if why.raw_os_error() == Some(libc::EFAULT) => 0,
            Err(_) => return None,
        };
        // The call stops at the first address that cannot be read.
        let whole = read / (N * 8);
        all.extend(words.into_iter().take(whole).map(Some));
        if whole < part.len() {
            all.push(None);
        }
        Some((whole + 1).min(part.len()))
    }

    /// Writes one aligned word. Used only if the user asked for it by a flag.
    pub fn write_word(&self, address: u64, value: u64) -> bool {
        if !self.is_the_same() {
            return false;
        }
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
                self.pid as libc::pid_t,
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        };
        written == bytes.len() as isize
    }
}

impl Read for ProcessMemory {
    fn read(&mut self, address: u64, into: &mut [u8], budget: &mut Budget) -> bool {
        self.fill_unchecked(address, into, budget)
    }

    fn is_the_same(&self) -> bool {
        Self::is_the_same(self)
    }
}

/// A pidfd of the process that has this pid now.
fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let handle = i32::try_from(handle)
        .ok()
        .filter(|handle| *handle >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just created it, and there is no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

/// Copies memory at several addresses of process `pid` into one buffer, up to the first address that cannot be
/// read; returns the number of bytes. The only caller of `process_vm_readv`.
pub fn read_vector(pid: u32, into: &mut [u8], remote: &[libc::iovec]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: the local vector describes `into`, which outlives the call. The kernel uses the remote addresses in
    // the other process only.
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
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessMemory {
        let pid = std::process::id();
        ProcessMemory::new(pid, identity::stat(pid).unwrap().start_ticks)
    }

    #[test]
    fn reads_itself_and_refuses_what_is_not_there() {
        let here = [7_u64, 8, 9];
        let budget = &mut Budget::small();
        let own = own();
        let at = here.as_ptr() as u64;
        assert_eq!(own.words::<3>(at, budget), Some(here));
        assert_eq!(own.word(&raw const here[1] as u64, budget), Some(8));
        assert_eq!(own.word(8, budget), None);
        assert_eq!(
            own.many::<1>(&[at, 8, at + 16], budget),
            [Some([7]), None, Some([9])]
        );
    }

    #[test]
    fn a_budget_ends() {
        let here = [7_u64; 64];
        let at = here.as_ptr() as u64;
        let own = own();
        let mut budget = Budget::new(24, 2, Duration::from_secs(60));
        assert_eq!(own.words::<3>(at, &mut budget), Some([7; 3]));
        assert!(!budget.is_over());
        assert_eq!(own.word(at, &mut budget), None, "bytes");
        assert!(budget.is_over());
        let mut budget = Budget::new(1 << 20, 2, Duration::from_secs(60));
        assert!(
            budget.object() && budget.object() && !budget.object(),
            "objects"
        );
        assert_eq!(own.many::<1>(&[at, at], &mut budget), [None, None]);
        let mut budget = Budget::new(1 << 20, u64::MAX, Duration::ZERO);
        assert!((0..1024).any(|_| !budget.step()), "time");
    }

    /// Neither an ended process nor one with another start time is read.
    #[test]
    fn another_process_is_not_read() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let start = identity::stat(pid).unwrap().start_ticks;
        let budget = &mut Budget::small();
        let address = crate::maps::read(pid).unwrap().first().unwrap().start;
        let memory = ProcessMemory::new(pid, start);
        let readable = memory.word(address, budget).is_some();
        assert!(!ProcessMemory::new(pid, start + 1).is_the_same());
        assert_eq!(
            ProcessMemory::new(pid, start + 1).word(address, budget),
            None
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(readable, "it could be read while it lived");
        assert!(!memory.is_the_same());
        assert_eq!(memory.word(address, budget), None);
        assert_eq!(memory.many::<1>(&[address], budget), [None]);
    }
}
