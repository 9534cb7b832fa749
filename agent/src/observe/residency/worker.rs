//! The search thread, at the lowest priority.

use std::{
    io,
    sync::mpsc::{Receiver, RecvError, Sender, channel},
    thread,
    time::Duration,
};

use heaptide_ebpf::tail::TailKey;
use tracing::debug;

use super::{
    memory::{Buffer, MemoryError, Read, read},
    search::{Needle, Search},
};
use heaptide_process::clocks::cpu_time;

/// CPU time after which a search is interrupted until its budget allows more.
const LONGEST: Duration = Duration::from_millis(500);
/// `nice` value of the thread.
const NICE: libc::c_int = 19;

/// A search to do.
pub(super) struct Job {
    /// The process.
    pub(super) pid: u32,
    /// Start address.
    pub(super) from: u64,
    /// The smallest byte value in credentials.
    pub(super) least: u8,
    /// The windows.
    pub(super) needles: Vec<Needle>,
}

/// The result.
pub(super) struct Done {
    /// The process.
    pub(super) pid: u32,
    /// The memory that was read.
    pub(super) read: Result<Read, MemoryError>,
    /// Fingerprints of the windows found, each once.
    pub(super) found: Vec<u64>,
    /// CPU time used.
    pub(super) cost: Duration,
}

/// Handle to the thread, which ends when this is dropped, at the latest after the current job.
pub(super) struct Worker {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(key: TailKey) -> io::Result<Self> {
        let (jobs, todo) = channel();
        let (finished, done) = channel();
        thread::Builder::new()
            .name("residency".to_owned())
            .spawn(move || work(key, &todo, &finished))?;
        Ok(Self { jobs, done })
    }

    /// Gives it a job; false if the thread is gone.
    pub(super) fn give(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Waits for a result.
    pub(super) fn wait(&self) -> Result<Done, RecvError> {
        self.done.recv()
    }

    /// The result of a finished job.
    pub(super) fn take(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

fn work(key: TailKey, todo: &Receiver<Job>, finished: &Sender<Done>) {
    // SAFETY: plain numbers; 0 is the calling thread. A failure has no effect.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } != 0 {
        debug!("priority: {}", io::Error::last_os_error());
    }
    let mut buffer = None;
    while let Ok(job) = todo.recv() {
        let begun = cpu_time();
        let mut found = Vec::new();
        let read = search(&job, key, &mut buffer, &mut found, || {
            cpu_time().saturating_sub(begun) < LONGEST
        });
        found.sort_unstable();
        found.dedup();
        let done = Done {
            pid: job.pid,
            read,
            found,
            cost: cpu_time().saturating_sub(begun),
        };
        if finished.send(done).is_err() {
            break;
        }
    }
}

fn search(
    job: &Job,
    key: TailKey,
    buffer: &mut Option<Buffer>,
    found: &mut Vec<u64>,
    more: impl Fn() -> bool,
) -> Result<Read, MemoryError> {
    let mut own = match buffer.take() {
        Some(buffer) => buffer,
        None => Buffer::new()?,
    };
    let search = Search::new(key, job.least, &job.needles);
    // A token may be at many positions: bounds the list between two checks of the clock.
    let most = 4 * job.needles.len() + 1024;
    let read = read(job.pid, job.from, &mut own, &mut |bytes| {
        search.look(bytes, &mut |fingerprint| found.push(fingerprint));
        if found.len() > most {
            found.sort_unstable();
            found.dedup();
        }
        more()
    });
    own.wipe();
    *buffer = Some(own);
    read
}
