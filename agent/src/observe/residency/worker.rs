//! The search thread, at the lowest priority.

use std::{
    collections::HashMap,
    io,
    sync::mpsc::{Receiver, RecvError, Sender, channel},
    thread,
    time::Duration,
};

use heaptide_ebpf::tail::TailKey;
use tracing::debug;

use super::{
    memory::{BEGIN, Buffer, EVEN, MemoryError, Read, read},
    search::{Needle, Search, narrow},
};
use heaptide_process::clocks::cpu_time;

/// CPU time after which a search is interrupted until its budget allows more.
const LONGEST: Duration = Duration::from_millis(500);
/// `nice` value of the thread.
const NICE: libc::c_int = 19;

/// What credentials look like in a target's memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::observe) struct Text {
    /// Their smallest byte value.
    pub(in crate::observe) least: u8,
    /// They may be in UTF-16 too.
    pub(in crate::observe) wide: bool,
}

/// A search to do.
pub(super) struct Job {
    /// The process.
    pub(super) pid: u32,
    /// Start address.
    pub(super) from: u64,
    /// What they look like.
    pub(super) text: Text,
    /// The windows.
    pub(super) needles: Vec<Needle>,
    /// A window to count: the usual beginning of the tokens.
    pub(super) beginning: Option<Needle>,
}

/// The result.
pub(super) struct Done {
    /// The process.
    pub(super) pid: u32,
    /// The memory that was read.
    pub(super) read: Result<Read, MemoryError>,
    /// Fingerprints of the windows found, each once.
    pub(super) found: Vec<u64>,
    /// How often the beginning was found.
    pub(super) count: u64,
    /// How the texts begin that end with a window.
    pub(super) beginnings: Beginnings,
    /// CPU time used.
    pub(super) cost: Duration,
}

/// Maximum number of different beginnings that are counted.
const BEGINNINGS: usize = 256;
/// Maximum number of texts of a job whose beginning is looked for. Finding it can take 16 KiB each.
const TEXTS: u64 = 2048;

/// What was found so far.
#[derive(Default)]
struct Found {
    windows: Vec<u64>,
    count: u64,
    beginnings: Beginnings,
}

/// How texts begin.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// How many texts begin so; at most [`BEGINNINGS`].
    pub(super) counts: HashMap<Needle, u64>,
    /// All texts that were looked at.
    pub(super) texts: u64,
}

impl Beginnings {
    /// `beginning`: `None` if it is not known.
    fn add(&mut self, beginning: Option<Needle>) {
        self.texts += 1;
        let Some(needle) = beginning else {
            return;
        };
        if self.counts.len() < BEGINNINGS || self.counts.contains_key(&needle) {
            *self.counts.entry(needle).or_default() += 1;
        }
    }

    /// The same of another job.
    pub(super) fn merge(&mut self, other: Self) {
        self.texts += other.texts;
        for (needle, count) in other.counts {
            if self.counts.len() < BEGINNINGS || self.counts.contains_key(&needle) {
                *self.counts.entry(needle).or_default() += count;
            }
        }
    }

    /// The beginning of most texts, if there are at least `least`.
    pub(super) fn usual(&self, least: u64) -> Option<Needle> {
        let (needle, count) = self.counts.iter().max_by_key(|(_, count)| **count)?;
        (*count >= least && 2 * count > self.texts).then_some(*needle)
    }
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
        let mut found = Found::default();
        let read = search(&job, key, &mut buffer, &mut found, || {
            cpu_time().saturating_sub(begun) < LONGEST
        });
        found.windows.sort_unstable();
        found.windows.dedup();
        let done = Done {
            pid: job.pid,
            read,
            found: found.windows,
            count: found.count,
            beginnings: found.beginnings,
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
    found: &mut Found,
    more: impl Fn() -> bool,
) -> Result<Read, MemoryError> {
    let mut own = match buffer.take() {
        Some(buffer) => buffer,
        None => Buffer::new()?,
    };
    let mut needles = job.needles.clone();
    needles.extend(job.beginning);
    let counted = job.beginning.map(|needle| needle.fingerprint);
    let search = Search::new(key, job.text.least, &needles);
    // A token may be at many positions: bounds the list between two checks of the clock.
    let most = 4 * job.needles.len() + 1024;
    let mut narrowed = job.text.wide.then(Buffer::new).transpose()?;
    let read = read(job.pid, job.from, &mut own, &mut |bytes| {
        let mut look = |bytes: &[u8], begin| {
            search.look(bytes, &mut |fingerprint, at| {
                if Some(fingerprint) == counted {
                    found.count += 1;
                    return;
                }
                found.windows.push(fingerprint);
                if found.beginnings.texts < TEXTS {
                    found.beginnings.add(search.beginning(bytes, begin, at));
                }
            });
        };
        look(bytes, BEGIN);
        if let Some(narrowed) = &mut narrowed {
            // A text that two pieces share is missed: the second begins with too little of the first.
            let even = bytes.get(EVEN..).unwrap_or_default();
            look(narrow(even, narrowed.bytes()), 0);
        }
        if found.windows.len() > most {
            found.windows.sort_unstable();
            found.windows.dedup();
        }
        more()
    });
    own.wipe();
    *buffer = Some(own);
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(fingerprint: u64) -> Needle {
        Needle {
            fingerprint,
            filter: 1,
        }
    }

    #[test]
    fn most_texts_have_the_usual_beginning() {
        let mut some = Beginnings::default();
        for number in 0..30 {
            some.add(Some(needle(7)));
            some.add((number % 2 == 0).then(|| needle(100 + number)));
        }
        assert_eq!(some.usual(10), None, "30 of 60 are not most");
        some.add(Some(needle(7)));
        assert_eq!(some.usual(10), Some(needle(7)));
        assert_eq!(some.usual(100), None, "too few");
        let mut all = Beginnings::default();
        for number in 0..5_000 {
            all.add(Some(needle(1_000 + number)));
        }
        all.merge(some);
        assert_eq!(all.counts.len(), BEGINNINGS);
        assert_eq!(all.usual(10), None, "those that were dropped count too");
    }
}
