//! Accesses that may block forever (a FUSE or NFS server that does not answer) run in a thread that
//! can be abandoned.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::caps;
use crate::ending;

type Job = Box<dyn FnOnce() + Send>;

/// No answer in time, or too many other accesses hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

/// Idle worker threads.
static IDLE: Mutex<Vec<mpsc::Sender<Job>>> = Mutex::new(Vec::new());
/// Maximum number of idle threads.
const MAX_IDLE: usize = 4;
/// Abandoned jobs that have not ended.
static STUCK: AtomicUsize = AtomicUsize::new(0);

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const ABANDONED: u8 = 2;

/// Runs a job in another thread and waits for it for at most [`caps::PATIENCE`].
pub(super) fn within<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GivenUp> {
    if ending::is_over() {
        return Err(GivenUp);
    }
    let patience = patience(STUCK.load(Ordering::Relaxed)).ok_or(GivenUp)?;
    let state = Arc::new(AtomicU8::new(RUNNING));
    let (answer, answered) = mpsc::sync_channel(1);
    let of_job = state.clone();
    submit(Box::new(move || {
        let value = job();
        if of_job.swap(ENDED, Ordering::AcqRel) == ABANDONED {
            STUCK.fetch_sub(1, Ordering::Relaxed);
        }
        // If the job was abandoned, there is no receiver.
        let _ = answer.send(value);
    }))?;
    let began = Instant::now();
    let answer = answered.recv_timeout(patience);
    ending::waited(began.elapsed());
    match answer {
        Ok(value) => Ok(value),
        // The job panicked.
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(GivenUp),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            STUCK.fetch_add(1, Ordering::Relaxed);
            if state.swap(ABANDONED, Ordering::AcqRel) == ENDED {
                STUCK.fetch_sub(1, Ordering::Relaxed);
                // It ended just now, so its answer is available.
                return answered.recv_timeout(patience).map_err(|_| GivenUp);
            }
            Err(GivenUp)
        }
    }
}

/// Time to wait while `stuck` others hang; `None`: do not try.
fn patience(stuck: usize) -> Option<Duration> {
    let row = caps::PATIENCE.iter().find(|(most, _)| stuck <= *most)?;
    (stuck < caps::STUCK).then_some(row.1)
}

fn idle() -> std::sync::MutexGuard<'static, Vec<mpsc::Sender<Job>>> {
    IDLE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn submit(mut job: Job) -> Result<(), GivenUp> {
    loop {
        let Some(worker) = idle().pop() else { break };
        match worker.send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(back)) => job = back,
        }
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    let first = sender.clone();
    std::thread::Builder::new()
        .name("files".to_string())
        .stack_size(256 << 10)
        .spawn(move || work(&jobs, &sender))
        .map_err(|_| GivenUp)?;
    first.send(job).map_err(|_| GivenUp)
}

fn work(jobs: &mpsc::Receiver<Job>, own: &mpsc::Sender<Job>) {
    while let Ok(job) = jobs.recv() {
        job();
        let mut idle = idle();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(own.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_hangs_is_given_up() {
        assert_eq!(within(|| 7), Ok(7));
        let (release, hangs) = mpsc::channel::<()>();
        let start = std::time::Instant::now();
        assert_eq!(within(move || hangs.recv().is_ok()), Err(GivenUp));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(STUCK.load(Ordering::Relaxed) >= 1);
        // others still run
        assert_eq!(within(|| 8), Ok(8));
        drop(release);
        let ended = || STUCK.load(Ordering::Relaxed) == 0;
        while !ended() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    #[test]
    fn patience_shrinks() {
        assert!(patience(0) > patience(1) && patience(1) > patience(caps::STUCK - 1));
        assert_eq!(patience(caps::STUCK), None);
    }
}
