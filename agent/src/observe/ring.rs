//! The thread that reads the ring, so that a scan of `/proc`, DWARF, a census or a grace period of the kernel
//! never delays it. Records wait in a bounded queue.

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::debug;

use crate::decode::{self, Record};
use crate::kernel::ring::KernelRing;

/// Polling interval for records without a wakeup.
const PERIOD_MS: libc::c_int = 50;
/// Maximum bytes of records in the queue; beyond that records are lost and counted.
const MOST_BYTES: usize = 32 << 20;
/// How long to wait until the thread has emptied the ring.
const PATIENCE: Duration = Duration::from_millis(500);

/// The queue and the thread that fills it.
pub(super) struct Ring {
    shared: Arc<Shared>,
    /// Wakes the thread.
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    /// Records that could not be decoded or stored.
    lost: u64,
    /// Number of requested readings of the whole ring, and the last completed one.
    asked: u64,
    done: u64,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent whenever the lock is free.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Starts the thread.
    pub(super) fn start(ring: KernelRing) -> io::Result<Self> {
        let wake = event()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let woken = wake.try_clone()?;
        let thread = thread::Builder::new()
            .name("ring".to_string())
            .spawn(move || read(ring, &woken, &theirs))?;
        Ok(Self {
            shared,
            wake,
            thread: Some(thread),
        })
    }

    /// Waits until there is a record, or for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let queue = self.shared.lock();
        // A panic of the thread is visible: no more records arrive.
        let _ = self
            .shared
            .changed
            .wait_timeout_while(queue, timeout, |queue| queue.records.is_empty());
    }

    /// What was read since the last call.
    pub(super) fn take(&self) -> VecDeque<Record> {
        let mut queue = self.shared.lock();
        queue.bytes = 0;
        mem::take(&mut queue.records)
    }

    /// The same, including everything in the ring by now.
    pub(super) fn take_all(&self) -> VecDeque<Record> {
        let mut queue = self.shared.lock();
        queue.asked += 1;
        let asked = queue.asked;
        drop(queue);
        signal(&self.wake);
        let queue = self.shared.lock();
        let done = self
            .shared
            .changed
            .wait_timeout_while(queue, PATIENCE, |queue| queue.done < asked);
        drop(done);
        self.take()
    }

    /// Records lost since [`forget_lost`](Self::forget_lost).
    pub(super) fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Resets the number of lost records.
    pub(super) fn forget_lost(&self) {
        self.shared.lock().lost = 0;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        signal(&self.wake);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; nothing can be saved.
            let _ = thread.join();
        }
    }
}

fn read(mut ring: KernelRing, woken: &OwnedFd, shared: &Shared) {
    loop {
        poll(&ring, woken);
        let (asked, stop) = {
            let queue = shared.lock();
            (queue.asked, queue.stop)
        };
        if stop {
            return;
        }
        let mut records = Vec::new();
        let (mut bytes, mut lost) = (0, 0);
        let begun = Instant::now();
        ring.drain(|record| {
            match decode::record(record) {
                Ok(decoded) => {
                    bytes += record.len();
                    records.push(decoded);
                }
                Err(why) => {
                    lost += 1;
                    debug!("{why}");
                }
            }
            // If records arrive faster than they are read, they are handed over in parts.
            bytes < MOST_BYTES && begun.elapsed() < PATIENCE
        });
        let mut queue = shared.lock();
        if queue.bytes + bytes <= MOST_BYTES {
            queue.bytes += bytes;
            queue.records.extend(records);
        } else {
            lost += records.len() as u64;
        }
        queue.lost += lost;
        queue.done = asked;
        drop(queue);
        shared.changed.notify_all();
    }
}

/// Waits for an urgent record, for a call, or for the interval.
fn poll(ring: &KernelRing, woken: &OwnedFd) {
    let of = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds = [of(ring.fd()), of(woken.as_raw_fd())];
    // SAFETY: two valid pollfds. An interrupted or failed wait only returns early.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, PERIOD_MS) };
    if fds[1].revents != 0 {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes, the size of an eventfd's counter. The read does not block, and its result is not
        // used.
        unsafe { libc::read(woken.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

fn event() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn signal(wake: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight bytes, the size of an eventfd's counter. The write fails only if the counter is at its
    // maximum.
    unsafe { libc::write(wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}
