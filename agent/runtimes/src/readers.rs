//! The thread that walks the heaps of processes whose runtime can be read from outside: censuses every few seconds
//! within a share of a core, and samples of lengths in between.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heaptide_judge::events::{Census, Lengths};
use heaptide_process::{clocks, identity};
use tracing::{debug, warn};

use crate::door::{HeapReader, ReadError};

/// Between the starts of two censuses of a target, at least.
const PERIOD: Duration = Duration::from_secs(3);
/// A census that takes so much CPU time is followed by a pause of `SHARE` times that, if its target does all the work that
/// is done: 1 % of a core for all targets, split as their own CPU time is.
const SHARE: u32 = 100;
/// The first so many censuses may take [`EARLY_SHARE`] instead, whatever others do: a big heap, and that of one worker of
/// many, is to be judged within a minute.
const EARLY: u32 = 12;
/// 4 % of a core.
const EARLY_SHARE: u32 = 25;
/// Where no requests are seen: a quarter of a percent.
const UNSEEN_SHARE: u32 = 400;
/// Less CPU time than this in a [`PERIOD`] is no work: a request takes more than looking at the clock now and then, as the
/// master of a service's workers does.
const WORK: Duration = Duration::from_millis(1);
/// A process that has done no work holds what it held. It is looked at so often; one that does little, at least so
/// often if all targets can be.
const IDLE: Duration = Duration::from_secs(60);
/// Walks of a layout that does not fit, before it is given up.
const PATIENCE: u32 = 5;

enum Order {
    Watch {
        pid: u32,
        start_ticks: u64,
        reader: Box<dyn HeapReader>,
    },
    Forget(u32),
    /// Its requests are seen or not.
    Requests(u32, bool),
}

/// What the reader says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapReading {
    /// A census.
    Census(Census),
    /// Lengths of containers since.
    Lengths(Lengths),
    /// No census will come, and why.
    GivenUp(ReadError),
}

/// The thread.
pub struct Readers {
    orders: Option<Sender<Order>>,
    readings: Receiver<(u32, HeapReading)>,
    thread: Option<JoinHandle<()>>,
}

/// A process that is read.
struct ReadProcess {
    start_ticks: u64,
    reader: Box<dyn HeapReader>,
    due: Instant,
    failed: u32,
    taken: u32,
    /// Its requests are seen.
    requests_seen: bool,
    /// When the last census began.
    last: Option<Instant>,
    /// It has worked since.
    worked: bool,
    /// The CPU time it had used by when that was last asked.
    asked: Option<(Instant, Duration)>,
    /// And in the period before.
    pace: Duration,
}

impl Readers {
    /// Starts the thread, which waits for targets.
    pub fn start() -> std::io::Result<Self> {
        let (orders, received) = channel();
        let (to, readings) = channel();
        let thread = thread::Builder::new()
            .name("heap readers".to_string())
            .spawn(move || run(&received, &to))?;
        Ok(Self {
            orders: Some(orders),
            readings,
            thread: Some(thread),
        })
    }

    /// Begins to read a target.
    pub fn watch(&self, pid: u32, start_ticks: u64, reader: Box<dyn HeapReader>) {
        self.order(Order::Watch {
            pid,
            start_ticks,
            reader,
        });
    }

    /// Ends it.
    pub fn forget(&self, pid: u32) {
        self.order(Order::Forget(pid));
    }

    /// The requests of a process are seen, or not: without them lengths tell nothing.
    pub fn requests_seen(&self, pid: u32, seen: bool) {
        self.order(Order::Requests(pid, seen));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            warn!("the thread that reads heaps has ended");
        }
    }

    /// What was read since the last call.
    pub fn readings(&self) -> impl Iterator<Item = (u32, HeapReading)> + '_ {
        self.readings.try_iter()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // it ends with its channel, after the walk it is in
            let _ = thread.join();
        }
    }
}

fn run(orders: &Receiver<Order>, to: &Sender<(u32, HeapReading)>) {
    be_nice();
    let mut targets: HashMap<u32, ReadProcess> = HashMap::new();
    loop {
        let due = targets.values().map(ReadProcess::due).min();
        let wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_duration_since(Instant::now())
        });
        match orders.recv_timeout(wait) {
            Ok(Order::Watch {
                pid,
                start_ticks,
                reader,
            }) => {
                let target = ReadProcess {
                    start_ticks,
                    reader,
                    due: Instant::now(),
                    failed: 0,
                    taken: 0,
                    requests_seen: true,
                    last: None,
                    worked: false,
                    asked: None,
                    pace: Duration::ZERO,
                };
                targets.insert(pid, target);
            }
            Ok(Order::Forget(pid)) => {
                targets.remove(&pid);
            }
            Ok(Order::Requests(pid, seen)) => {
                if let Some(target) = targets.get_mut(&pid) {
                    target.requests(pid, seen, to);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        let all = Work {
            cpu: targets.values().map(|target| target.pace).sum(),
            targets: u32::try_from(targets.len()).unwrap_or(u32::MAX),
        };
        let ready: Vec<u32> = targets
            .iter()
            .filter(|(_, target)| target.due() <= now)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in ready {
            let Some(target) = targets.get_mut(&pid) else {
                continue;
            };
            // A target that is not what it seems must cost no other its censuses, nor go silently.
            let kept = catch_unwind(AssertUnwindSafe(|| {
                target.ask(pid) && target.sample(pid, to) && target.read(pid, all, to)
            }))
            .unwrap_or_else(|_| {
                let _ = to.send((pid, HeapReading::GivenUp(ReadError::Fault)));
                false
            });
            if !kept {
                targets.remove(&pid);
            }
        }
    }
}

/// What all targets do.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// CPU time that they used in a period.
    cpu: Duration,
    targets: u32,
}

impl Work {
    /// Until the next census of a target that has used so much of that CPU time, when one takes so much of heaptide's and
    /// all together are to take no more than one in `share`.
    fn pause(self, share: u32, takes: Duration, pace: Duration) -> Duration {
        let alone = takes.saturating_mul(share);
        let evenly = alone.saturating_mul(self.targets);
        let others = self.cpu.as_secs_f64() / pace.max(WORK).as_secs_f64();
        let by_work = Duration::try_from_secs_f64(alone.as_secs_f64() * others.max(1.0));
        let longest = evenly.max(IDLE);
        by_work.unwrap_or(longest).min(longest).max(PERIOD)
    }
}

impl ReadProcess {
    fn due(&self) -> Instant {
        let ask = self.asked.map_or(self.due, |(at, _)| at + PERIOD);
        let look = self.reader.sample_due().unwrap_or(ask);
        self.due.min(ask).min(look)
    }

    /// Asks, when it is time to, how much CPU time it has used; whether it is still there.
    fn ask(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        if self.asked.is_some_and(|(at, _)| now < at + PERIOD) {
            return true;
        }
        let Ok(used) = clocks::cpu_time_of(pid) else {
            return false;
        };
        if let Some((at, before)) = self.asked.replace((now, used)) {
            let periods = (now - at).as_secs_f64() / PERIOD.as_secs_f64();
            self.pace = used.saturating_sub(before).div_f64(periods.max(1.0));
            self.worked |= self.pace >= WORK;
        }
        true
    }

    fn requests(&mut self, pid: u32, seen: bool, to: &Sender<(u32, HeapReading)>) {
        self.requests_seen = seen;
        if seen {
            // What there is when the first request comes.
            (self.due, self.worked) = (Instant::now(), true);
        } else {
            self.sample_growing(pid, false, to);
        }
    }

    /// Samples what grows from now on, or nothing.
    fn sample_growing(&mut self, pid: u32, growing: bool, to: &Sender<(u32, HeapReading)>) {
        if let Some(rest) = self.reader.sample_growing(growing) {
            let _ = to.send((pid, HeapReading::Lengths(rest)));
        }
    }

    /// Takes a sample when it is time to; whether anybody listens.
    fn sample(&mut self, pid: u32, to: &Sender<(u32, HeapReading)>) -> bool {
        if self
            .reader
            .sample_due()
            .is_none_or(|due| due > Instant::now())
        {
            return true;
        }
        let seen = self.reader.sample();
        seen.is_none_or(|seen| to.send((pid, HeapReading::Lengths(seen))).is_ok())
    }

    /// Takes a census when it is time to; whether there is to be another.
    fn read(&mut self, pid: u32, all: Work, to: &Sender<(u32, HeapReading)>) -> bool {
        if self.due > Instant::now() {
            return true;
        }
        // a pid that was given to another process must not be read
        if !identity::stat(pid)
            .is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.dead())
        {
            return false;
        }
        let begun = Instant::now();
        if !self.worked && self.last.is_some_and(|last| last.elapsed() < IDLE) {
            // With the next answer, which may be that it works.
            self.due = self.asked.map_or(begun, |(at, _)| at) + PERIOD;
            return true;
        }
        let before = clocks::cpu_time();
        (self.last, self.worked) = (Some(begun), false);
        let taken = self.reader.census();
        let took = begun.elapsed();
        let takes = clocks::cpu_time().saturating_sub(before);
        let pause = if !self.requests_seen {
            all.pause(UNSEEN_SHARE, takes, self.pace)
        } else if self.taken < EARLY {
            self.taken += 1;
            PERIOD.max(takes.saturating_mul(EARLY_SHARE))
        } else {
            all.pause(SHARE, takes, self.pace)
        };
        self.due = begun + pause;
        match taken {
            Ok(census) => {
                self.failed = 0;
                if self.requests_seen {
                    self.sample_growing(pid, true, to);
                }
                debug!(
                    pid,
                    objects = census.objects,
                    torn = census.torn,
                    cut = census.cut,
                    millis = took.as_secs_f64() * 1e3,
                    "census"
                );
                to.send((pid, HeapReading::Census(census))).is_ok()
            }
            Err(why) => {
                // an interpreter that is just starting, or a target that is just ending
                self.failed += 1;
                self.last = None;
                self.failed < PATIENCE || {
                    let _ = to.send((pid, HeapReading::GivenUp(why)));
                    false
                }
            }
        }
    }
}

/// Lets the target go first where there are not enough cores.
fn be_nice() {
    const NICE: libc::c_int = 10;
    // SAFETY: takes no pointers; 0 is the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn one_target_takes_all_of_the_share() {
        let all = Work {
            cpu: 1_500 * MILLI,
            targets: 1,
        };
        assert_eq!(all.pause(SHARE, 80 * MILLI, all.cpu).as_secs(), 8);
        assert_eq!(all.pause(SHARE, 5 * MILLI, all.cpu), PERIOD);
        // Of a process that has only begun to work nothing is known.
        let all = Work {
            cpu: Duration::ZERO,
            ..all
        };
        assert_eq!(all.pause(SHARE, 80 * MILLI, all.cpu).as_secs(), 8);
    }

    #[test]
    fn targets_share_by_the_work_they_do() {
        // A master, a worker with much to do and one with less.
        let paces = [MILLI, 900 * MILLI, 300 * MILLI];
        let all = Work {
            cpu: paces.iter().sum(),
            targets: 3,
        };
        let pauses = paces.map(|pace| all.pause(SHARE, 100 * MILLI, pace).as_secs());
        assert_eq!(pauses, [IDLE.as_secs(), 13, 40]);
    }

    #[test]
    fn where_there_are_many_all_wait_alike() {
        let paces = [MILLI; 20];
        let all = Work {
            cpu: 10_000 * MILLI,
            targets: 20,
        };
        // 20 of 100 ms would be 3 % of a core each minute.
        let pauses = paces.map(|pace| all.pause(SHARE, 100 * MILLI, pace).as_secs());
        assert_eq!(pauses, [200; 20]);
    }
}
