//! `CPython` seen from outside: a thread of the agent that walks the objects of the Python targets
//! every few seconds and sends what it found.

mod census;
mod code;
mod fillers;
mod follow;
mod lengths;
mod memory;
mod objects;
mod opcodes;
mod paths;
mod sizes;
mod stacks;
mod types;
mod walk;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use census::Taken;
pub use census::{CensusError, Censuses};
use lengths::Looks;
pub use memory::{Pages, ProcessMemory, Read};
pub(super) use stacks::Stacks;

use crate::events::{Census, Lengths, Nanos};
use crate::source::clocks;
use crate::target::process;
use crate::target::runtimes::cpython::Interpreter;

/// Between the starts of two censuses of a target, at least.
const PERIOD: Duration = Duration::from_secs(3);
/// A census that takes so much CPU time is followed by a pause of `SHARE` times that, and as many times as there are
/// busy targets: 1 % of a core for all.
const SHARE: u32 = 100;
/// The first so many censuses may take [`EARLY_SHARE`] instead, so that a big heap is judged within a minute.
const EARLY: u32 = 12;
/// 4 % of a core.
const EARLY_SHARE: u32 = 25;
/// Where no requests are seen: a quarter of a percent.
const RESTING_SHARE: u32 = 400;
/// A process that has hardly used CPU time holds what it held: the master of a service's workers. It is looked at so often.
const IDLE: Duration = Duration::from_secs(60);
/// Less CPU time than this is no work: a request takes some, a look at the clock does not.
const WORK: Duration = Duration::from_millis(1);
/// Walks of a layout that does not fit, before it is given up.
const PATIENCE: u32 = 5;

enum Order {
    Watch {
        pid: u32,
        start_ticks: u64,
        python: Box<Interpreter>,
    },
    Forget(u32),
    /// Its requests are not seen, or are again.
    Rest(u32, bool),
}

/// What the reader says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A census.
    Census(Census),
    /// Lengths of containers since.
    Lengths(Lengths),
    /// No census will come, and why.
    GivenUp(CensusError),
}

/// The thread that reads Python targets.
pub struct Reader {
    orders: Option<Sender<Order>>,
    readings: Receiver<(u32, Reading)>,
    thread: Option<JoinHandle<()>>,
}

struct Watching {
    start_ticks: u64,
    censuses: Censuses,
    looks: Looks,
    due: Instant,
    failed: u32,
    taken: u32,
    /// Its requests are not seen.
    resting: bool,
    /// When the last census began, and the CPU time it had used by then.
    last: Option<(Instant, Duration)>,
    /// It had hardly used any since the one before.
    idle: bool,
}

impl Reader {
    /// Starts the thread, which waits for targets.
    pub fn start() -> std::io::Result<Self> {
        let (orders, received) = channel();
        let (to, readings) = channel();
        let thread = thread::Builder::new()
            .name("python".to_string())
            .spawn(move || run(&received, &to))?;
        Ok(Self {
            orders: Some(orders),
            readings,
            thread: Some(thread),
        })
    }

    /// Begins to read a target.
    pub fn watch(&self, pid: u32, start_ticks: u64, python: Interpreter) {
        self.order(Order::Watch {
            pid,
            start_ticks,
            python: Box::new(python),
        });
    }

    /// Ends it.
    pub fn forget(&self, pid: u32) {
        self.order(Order::Forget(pid));
    }

    /// The requests of a target are not seen (`true`), or are again: lengths tell nothing without them.
    pub fn rest(&self, pid: u32, resting: bool) {
        self.order(Order::Rest(pid, resting));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            warn!("the thread that reads Python targets has ended");
        }
    }

    /// What was read since the last call.
    pub fn readings(&self) -> impl Iterator<Item = (u32, Reading)> + '_ {
        self.readings.try_iter()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // it ends with its channel, after the walk it is in
            let _ = thread.join();
        }
    }
}

fn run(orders: &Receiver<Order>, to: &Sender<(u32, Reading)>) {
    be_nice();
    let mut targets: HashMap<u32, Watching> = HashMap::new();
    loop {
        let due = targets.values().map(Watching::due).min();
        let wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_duration_since(Instant::now())
        });
        match orders.recv_timeout(wait) {
            Ok(Order::Watch {
                pid,
                start_ticks,
                python,
            }) => {
                let target = Watching {
                    start_ticks,
                    censuses: Censuses::new(pid, *python),
                    looks: Looks::default(),
                    due: Instant::now(),
                    failed: 0,
                    taken: 0,
                    resting: false,
                    last: None,
                    idle: false,
                };
                targets.insert(pid, target);
            }
            Ok(Order::Forget(pid)) => {
                targets.remove(&pid);
            }
            Ok(Order::Rest(pid, resting)) => {
                if let Some(target) = targets.get_mut(&pid) {
                    target.rest(pid, resting, to);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        let busy = targets.values().filter(|target| !target.idle).count();
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
                target.look(pid, to) && target.read(pid, busy, to)
            }))
            .unwrap_or_else(|_| {
                let _ = to.send((pid, Reading::GivenUp(CensusError::Fault)));
                false
            });
            if !kept {
                targets.remove(&pid);
            }
        }
    }
}

impl Watching {
    fn due(&self) -> Instant {
        self.looks.due().map_or(self.due, |look| look.min(self.due))
    }

    fn rest(&mut self, pid: u32, resting: bool, to: &Sender<(u32, Reading)>) {
        self.resting = resting;
        if resting {
            self.look_at(pid, Vec::new(), to);
        } else {
            // What there is when the first request comes.
            self.due = Instant::now();
        }
    }

    /// Looks at these containers from now on.
    fn look_at(&mut self, pid: u32, wanted: Vec<lengths::Watched>, to: &Sender<(u32, Reading)>) {
        if let Some(rest) = self.looks.at(pid, wanted) {
            let _ = to.send((pid, Reading::Lengths(rest)));
        }
    }

    /// Looks at containers when it is time to; whether anybody listens.
    fn look(&mut self, pid: u32, to: &Sender<(u32, Reading)>) -> bool {
        if self.looks.due().is_none_or(|due| due > Instant::now()) {
            return true;
        }
        let seen = self.looks.look(pid);
        seen.is_none_or(|seen| to.send((pid, Reading::Lengths(seen))).is_ok())
    }

    /// Whether it has done nothing since the last census, a short while ago.
    fn did_nothing(&mut self, used: Duration) -> bool {
        let since = |before| used.saturating_sub(before);
        self.idle = self.last.is_some_and(|(_, before)| since(before) < WORK);
        self.idle && self.last.is_some_and(|(at, _)| at.elapsed() < IDLE)
    }

    /// Takes a census when it is time to, as one of so many that are busy; whether there is to be another.
    fn read(&mut self, pid: u32, busy: usize, to: &Sender<(u32, Reading)>) -> bool {
        if self.due > Instant::now() {
            return true;
        }
        // a pid that was given to another process must not be read
        let same = process::stat(pid)
            .is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.dead());
        let Some(used) = clocks::cpu_time_of(pid).filter(|_| same) else {
            return false;
        };
        if self.did_nothing(used) {
            self.due = Instant::now() + PERIOD;
            return true;
        }
        let (begun, worked) = (Instant::now(), clocks::cpu_time());
        self.last = Some((begun, used));
        let taken = self.censuses.walk();
        let took = begun.elapsed();
        let worked = clocks::cpu_time().saturating_sub(worked);
        // The share is for all, but the first verdict is not to wait for the number of workers.
        let beside = u32::try_from(busy).unwrap_or(u32::MAX).max(1);
        let share = if self.resting {
            RESTING_SHARE.saturating_mul(beside)
        } else if self.taken < EARLY {
            self.taken += 1;
            EARLY_SHARE
        } else {
            SHARE.saturating_mul(beside)
        };
        self.due = begun + PERIOD.max(worked * share);
        match taken {
            Ok(Taken {
                mut census,
                growing,
                listed,
            }) => {
                self.failed = 0;
                if !self.resting {
                    self.look_at(pid, growing, to);
                }
                // a container was counted somewhere in between
                let ago =
                    |ago: Duration| Nanos(super::now().0.saturating_sub(ago.as_nanos() as u64));
                census.at = ago(took / 2);
                census.instances_at = ago(listed.elapsed());
                debug!(
                    pid,
                    objects = census.objects,
                    torn = census.torn,
                    cut = census.cut,
                    millis = took.as_secs_f64() * 1e3,
                    "census"
                );
                to.send((pid, Reading::Census(census))).is_ok()
            }
            Err(why) => {
                // an interpreter that is just starting, or a target that is just ending
                self.failed += 1;
                self.last = None;
                self.failed < PATIENCE || {
                    let _ = to.send((pid, Reading::GivenUp(why)));
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
