//! The helper's side: answers until the agent closes the socket, or until it is too large.
//!
//! Files are mapped and never unmapped, because the helper is short-lived.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::debug::Named;
use super::protocol::{Answer, Detail, Request, receive, send};
use super::sandbox;
use crate::files::caps;

/// Growth of private memory by reading files, after which a new helper takes over.
const MAX_GROWTH: u64 = 16 << 20;
/// Private memory with which no further file is read.
const MAX_BEFORE: u64 = 12 << 20;
/// Maximum resident bytes of mapped files.
const MAX_RESIDENT: u64 = 8 << 20;
/// Timeout of a request: longer than the agent waits.
const MAX_BUSY: Duration = Duration::from_secs(30);
/// Maximum number of files per helper.
const MAX_MODULES: usize = 1024;

/// The mapped files: address and length.
static MAPPED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
/// A request is in progress.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Answers on standard input, a socket, in a confined process.
pub fn serve_confined() -> io::Result<()> {
    let statm = File::open("/proc/self/statm")?;
    let of_watch = statm.try_clone()?;
    let (started, runs) = mpsc::channel();
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            // System calls for starting a thread are not allowed later.
            let _ = started.send(());
            watch(&of_watch);
        })?;
    runs.recv().map_err(io::Error::other)?;
    sandbox::confine()?;
    answer(io::stdin().as_fd(), Some(&statm))
}

/// Answers in this process, without confinement.
pub(super) fn serve_here(socket: &OwnedFd) {
    // If this helper has ended, the agent starts another.
    let _ = answer(socket.as_fd(), None);
}

fn answer(socket: BorrowedFd<'_>, statm: Option<&File>) -> io::Result<()> {
    let private = || statm.map_or(0, |statm| memory(statm).0);
    let mut modules: Vec<Named> = Vec::new();
    let mut base = private();
    while let Some((request, files)) = receive::<Request>(socket)? {
        BUSY.store(true, Ordering::Relaxed);
        let (answer, ends) = match request {
            Request::Open { .. } if modules.len() == MAX_MODULES => (Answer::Full, true),
            Request::Open { .. } if !modules.is_empty() && private() > MAX_BEFORE => {
                (Answer::Full, true)
            }
            Request::Open {
                detail,
                debug,
                shared,
            } => match open(&files, detail, debug, shared) {
                Ok((named, said)) => {
                    modules.push(named);
                    base = private();
                    (Answer::Opened(modules.len() as u32 - 1, said), false)
                }
                Err(why) => (Answer::Refused(why), false),
            },
            Request::Look { module, address } => match modules.get(module as usize) {
                Some(named) => {
                    let looked = named.look(address);
                    (Answer::Looked(looked), private() > base + MAX_GROWTH)
                }
                None => (Answer::Refused("no such module".to_string()), true),
            },
        };
        BUSY.store(false, Ordering::Relaxed);
        forget_pages();
        send(socket, &(answer, ends), &[])?;
        if ends {
            return Ok(());
        }
    }
    Ok(())
}

fn open(
    files: &[OwnedFd],
    detail: Detail,
    debug: bool,
    shared: bool,
) -> Result<(Named, Option<String>), String> {
    let mut files = files.iter().map(map);
    let module = files.next().ok_or("no file came")??;
    let debug = debug.then(|| files.next()).flatten().transpose()?;
    let shared = shared.then(|| files.next()).flatten().transpose()?;
    Named::open(module, debug, shared, detail == Detail::Lines).map_err(|why| why.to_string())
}

/// Maps a file for the lifetime of this process.
fn map(file: &OwnedFd) -> Result<&'static [u8], String> {
    let len = rustix::fs::fstat(file)
        .map_err(|why| why.to_string())?
        .st_size;
    let len = u64::try_from(len).unwrap_or(0);
    if len == 0 || len > caps::DEBUG_FILE {
        return Err(format!("it is larger than {} GiB", caps::DEBUG_FILE >> 30));
    }
    let len = len as usize;
    let (read, private) = (ProtFlags::READ, MapFlags::PRIVATE);
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, read, private, file, 0) }
        .map_err(|why| why.to_string())?;
    lock().push((start as usize, len));
    // SAFETY: `len` readable bytes that are never unmapped. The owner may change the file meanwhile:
    // all readers check each value that they have read. If the file is truncated, SIGBUS ends this
    // process, which is acceptable for the helper.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

fn lock() -> std::sync::MutexGuard<'static, Vec<(usize, usize)>> {
    MAPPED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Drops the pages of the mapped files; they are read again on access.
fn forget_pages() {
    for (start, len) in lock().iter() {
        // SAFETY: a private mapping that is never written: its pages can be read again. On failure the
        // pages stay.
        let _ = unsafe { rustix::mm::madvise(*start as *mut _, *len, Advice::LinuxDontNeed) };
    }
}

/// Limits the resident pages of large files during a request.
fn watch(statm: &File) {
    let mut idle = Instant::now();
    loop {
        let busy = BUSY.load(Ordering::Relaxed);
        if !busy {
            idle = Instant::now();
        } else if idle.elapsed() > MAX_BUSY {
            // The agent has abandoned the request or is gone.
            std::process::abort();
        }
        if busy && memory(statm).1 > MAX_RESIDENT {
            forget_pages();
        }
        std::thread::sleep(Duration::from_millis(if busy { 3 } else { 20 }));
    }
}

/// Resident bytes: private ones, and those of files.
fn memory(statm: &File) -> (u64, u64) {
    let mut text = [0; 128];
    let len = statm.read_at(&mut text, 0).unwrap_or(0);
    let text = text.get(..len).unwrap_or_default();
    let mut pages = text
        .split(|byte| *byte == b' ')
        .map(|number| std::str::from_utf8(number).ok()?.parse::<u64>().ok());
    let mut next = || pages.next().flatten().unwrap_or(0) * 4096;
    let (_, resident, files) = (next(), next(), next());
    (resident.saturating_sub(files), files)
}
