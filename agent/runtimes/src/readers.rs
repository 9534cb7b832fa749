//! The thread that walks the heaps of processes: a census every few seconds within a CPU budget, and length samples in
//! between.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heaptide_judge::events::{Census, Lengths};
use heaptide_process::{clocks, ending, identity};
use tracing::{debug, warn};

use crate::door::{HeapReader, ReadError};

/// Minimum interval between the starts of two censuses of a target.
const PERIOD: Duration = Duration::from_secs(3);
/// After a census the pause is `SHARE` times its CPU time, divided by the target's share of all targets' CPU time. So
/// all targets together use 1 % of a core.
const SHARE: u32 = 100;
/// The first censuses may use [`EARLY_SHARE`] regardless of other targets, so that a large heap or one of many workers
/// is judged within a minute.
const EARLY: u32 = 12;
/// 4 % of a core.
const EARLY_SHARE: u32 = 25;
/// While requests are not traced: 0.25 %.
const UNSEEN_SHARE: u32 = 400;
/// A process with less CPU time than this in a [`PERIOD`] is idle, such as the master of a service's workers, which
/// only checks the clock. A request takes more.
const WORK: Duration = Duration::from_millis(1);
/// Census interval of an idle process, whose memory cannot have changed. Also the maximum interval of a process with
/// little work, if the budget allows.
const IDLE: Duration = Duration::from_secs(60);
/// Failed censuses before a layout is given up.
const PATIENCE: u32 = 5;

enum Order {
    Watch {
        pid: u32,
        start_ticks: u64,
        reader: Box<dyn HeapReader>,
    },
    Forget(u32),
    /// Whether its requests are traced.
    Requests(u32, bool),
}

/// What a reader reports of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapReading {
    /// A census.
    Census(Census),
    /// Length samples.
    Lengths(Lengths),
    /// There will be no census, and why.
    GivenUp(ReadError),
}

/// The readers' thread.
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
    /// Its requests are traced.
    requests_seen: bool,
    /// Start of the last census.
    last: Option<Instant>,
    /// It has used CPU since.
    worked: bool,
    /// Time and CPU time at the last check.
    asked: Option<(Instant, Duration)>,
    /// CPU time in the period before.
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

    /// Starts to read a target.
    pub fn watch(&self, pid: u32, start_ticks: u64, reader: Box<dyn HeapReader>) {
        self.order(Order::Watch {
            pid,
            start_ticks,
            reader,
        });
    }

    /// Stops reading it.
    pub fn forget(&self, pid: u32) {
        self.order(Order::Forget(pid));
    }

    /// Sets whether the requests of a process are traced; without them length samples are useless.
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
        if let Some(thread) = self.thread.take()
            && !ending::is_asked()
        {
            // It ends when its channel closes, after the current walks; the program does not wait for them.
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
            // A panic on one target must not affect others, and must be reported.
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

/// The work of all targets.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// CPU time that they used in a period.
    cpu: Duration,
    targets: u32,
}

impl Work {
    /// Pause until the next census of a target that used `pace` CPU time, if a census takes `takes` and all together
    /// may use 1 / `share`.
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

    /// Checks, when due, how much CPU time it has used; false if it is gone.
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
            // The first request should find a current census.
            (self.due, self.worked) = (Instant::now(), true);
        } else {
            self.sample_growing(pid, false, to);
        }
    }

    /// Starts or stops sampling.
    fn sample_growing(&mut self, pid: u32, growing: bool, to: &Sender<(u32, HeapReading)>) {
        if let Some(rest) = self.reader.sample_growing(growing) {
            let _ = to.send((pid, HeapReading::Lengths(rest)));
        }
    }

    /// Takes a sample when due; false if the receiver is gone.
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

    /// Takes a census when due; false if there will be no more.
    fn read(&mut self, pid: u32, all: Work, to: &Sender<(u32, HeapReading)>) -> bool {
        if self.due > Instant::now() {
            return true;
        }
        // the pid may have been reused
        if !identity::stat(pid)
            .is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.dead())
        {
            return false;
        }
        let begun = Instant::now();
        if !self.worked && self.last.is_some_and(|last| last.elapsed() < IDLE) {
            // The next check may find it active.
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
                // an interpreter that is starting, or a target that is ending
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

/// Lowers the thread's priority, so that the target runs first if cores are scarce.
fn be_nice() {
    const NICE: libc::c_int = 10;
    // SAFETY: takes no pointers; 0 is the calling thread. A failure has no effect.
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
        // Nothing is known of a process that has just become active.
        let all = Work {
            cpu: Duration::ZERO,
            ..all
        };
        assert_eq!(all.pause(SHARE, 80 * MILLI, all.cpu).as_secs(), 8);
    }

    #[test]
    fn targets_share_by_the_work_they_do() {
        // A master, a busy worker and a less busy one.
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
