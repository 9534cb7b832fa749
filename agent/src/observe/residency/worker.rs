//! The thread that searches: at the lowest priority, so that it takes what the target leaves.

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

/// CPU time after which a search is interrupted, to go on when its budget has grown again.
const LONGEST: Duration = Duration::from_millis(500);
/// `nice` of the thread.
const NICE: libc::c_int = 19;

/// What to search.
pub(super) struct Job {
    /// Whose memory.
    pub(super) pid: u32,
    /// From which address upwards.
    pub(super) from: u64,
    /// The smallest byte of a credential.
    pub(super) least: u8,
    /// For which windows.
    pub(super) needles: Vec<Needle>,
}

/// What came of it.
pub(super) struct Done {
    /// Whose memory.
    pub(super) pid: u32,
    /// How much of it.
    pub(super) read: Result<Read, MemoryError>,
    /// Fingerprints of windows that are there, each once.
    pub(super) found: Vec<u64>,
    /// CPU time that it took.
    pub(super) cost: Duration,
}

/// Handle to the thread; it ends when this is dropped, at the latest after the job under way.
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

    /// Gives it a job; false: it is gone.
    pub(super) fn give(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Waits for a result.
    pub(super) fn wait(&self) -> Result<Done, RecvError> {
        self.done.recv()
    }

    /// The result of a job that is finished.
    pub(super) fn take(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

fn work(key: TailKey, todo: &Receiver<Job>, finished: &Sender<Done>) {
    // SAFETY: plain numbers; 0 is the calling thread. Without the right priority it works all the same.
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
    // One token can lie in many places: a bound on what is noted between two looks at the clock.
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
