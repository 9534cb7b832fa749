//! Observes processes without kernel programs, where the kernel refuses them: their memory, the containers of their
//! heaps and the marks of their collectors are read from outside. Requests, allocations and page faults are not seen.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use heaptide_judge::events::{Losses, Observation, Opinion};
use heaptide_process::clocks::now;
use heaptide_process::identity;
use heaptide_process::limits::limits;
use heaptide_process::symbols::Symbolizer;
use heaptide_runtimes::readers::Readers;
use heaptide_runtimes::{Target, inspect};
use tracing::{debug, warn};

use super::heaps;
use super::host::{Sink, SourceError};
use super::memory::own_usage;
use super::observing::Observing;
use super::options::TargetOptions;
use crate::privileges;

/// The mode in reports.
const MODE: &str = "outside";
/// Maximum number of followed children.
const MOST_CHILDREN: usize = 64;

/// Processes that are read from outside.
pub struct Outside {
    options: TargetOptions,
    /// Why there are no kernel programs.
    limitation: String,
    readers: Option<Readers>,
    processes: BTreeMap<u32, Process>,
    /// Children followed since the last call: child, parent.
    followed: Vec<(u32, u32)>,
    /// Number of the next process.
    next: u32,
}

struct Process {
    target: Target,
    symbolizer: Symbolizer,
    options: TargetOptions,
    ended: bool,
}

impl Outside {
    /// `why` the kernel programs cannot be used.
    pub fn new(options: TargetOptions, why: &SourceError) -> Self {
        Self {
            options,
            limitation: format!(
                "kernel programs cannot be used here ({why}): requests, allocations and page faults are not seen, so \
                 growth is not tied to a request and no route is named, and processes that it starts later are not followed; \
                 memory and the runtime's own heap are read"
            ),
            readers: None,
            processes: BTreeMap::new(),
            followed: Vec::new(),
            next: 1,
        }
    }

    fn step(&mut self, pid: u32, sink: &mut Sink<'_>) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if process.ended {
            return;
        }
        // Nothing is read of another process that got its pid.
        if !process.target.is_alive() {
            process.ended = true;
            sink(pid, Observation::Ended(now()));
            return;
        }
        match limits(pid, process.options.memory_limit) {
            Ok(sample) => sink(pid, Observation::Memory(sample)),
            Err(why) => debug!(pid, "cannot sample the process's memory usage: {why}"),
        }
        let usage = own_usage();
        let losses = Losses {
            at: now(),
            agent_cpu_seconds: usage.0,
            agent_rss: usage.1,
            ..Losses::default()
        };
        sink(pid, Observation::Losses(losses));
        let observer = &mut process.target.runtime.observer;
        observer.read(now(), &mut process.symbolizer, &mut |one| sink(pid, one));
    }
}

impl Observing for Outside {
    fn attach(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        self.attach_with(pid, self.options.clone(), sink)
    }

    fn attach_with(
        &mut self,
        pid: u32,
        options: TargetOptions,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError> {
        let mut target = inspect(pid)?;
        let symbolizer = Symbolizer::new(pid)?;
        target.runtime.observer.begin(self.next);
        self.next += 1;
        let info = &mut target.info;
        privileges::name_once(&mut info.limitations);
        info.limitations.push(self.limitation.clone());
        // Whatever grows may be due to requests.
        info.requests_unread = true;
        MODE.clone_into(&mut info.mode);
        heaps::watch(&mut self.readers, &target);
        sink(pid, Observation::Target(now(), target.info.clone()));
        let process = Process {
            target,
            symbolizer,
            options,
            ended: false,
        };
        self.processes.insert(pid, process);
        self.step(pid, sink);
        Ok(())
    }

    fn follow_children(&mut self, pid: u32, sink: &mut Sink<'_>) {
        let program = identity::exe_inode(pid);
        let options = self.processes.get(&pid).map(|one| one.options.clone());
        let (Some(program), Some(options)) = (program, options) else {
            return;
        };
        if !options.follow {
            return;
        }
        for child in identity::children(pid).into_iter().take(MOST_CHILDREN) {
            if identity::exe_inode(child) != Some(program) || self.processes.contains_key(&child) {
                continue;
            }
            match self.attach_with(child, options.clone(), sink) {
                Ok(()) => self.followed.push((child, pid)),
                Err(why) => warn!(pid = child, "a child is not observed: {why}"),
            }
        }
    }

    fn take_followed(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.followed)
    }

    fn detach(&mut self, pid: u32) {
        if let Some(readers) = &self.readers {
            readers.forget(pid);
        }
        self.processes.remove(&pid);
    }

    fn ended(&self, pid: u32) -> bool {
        let process = self.processes.get(&pid);
        process.is_none_or(|process| process.ended || !process.target.is_alive())
    }

    fn limitations(&self) -> Vec<String> {
        vec![self.limitation.clone()]
    }

    fn wait(&self, timeout: Duration) {
        thread::sleep(timeout);
    }

    fn pump(&mut self, _: &mut Sink<'_>) {}

    fn sample(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        for (pid, reading) in self.readers.iter().flat_map(Readers::readings) {
            if let Some(process) = self.processes.get_mut(&pid) {
                heaps::forward(&mut process.target, reading, sink);
            }
        }
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        for pid in pids {
            self.step(pid, sink);
        }
        Ok(())
    }

    fn snapshot(&mut self, _: &mut Sink<'_>) -> Result<bool, SourceError> {
        Ok(true)
    }

    fn snapshot_now(&mut self, _: &mut Sink<'_>) -> Result<(), SourceError> {
        Ok(())
    }

    fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        Ok(BTreeMap::new())
    }

    fn wants_opinion(&self, _: u32) -> bool {
        false
    }

    fn set_opinion(&mut self, _: u32, _: Opinion) {}
}
