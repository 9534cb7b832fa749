//! The object that `attach` and the daemon drive. Other files implement the steps; here is their order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use heaptide_judge::events::{Observation, Opinion};
use heaptide_process::clocks::now;
use heaptide_runtimes::{inspect, readers::Readers};

use super::attach::{Beginning, begin};
use super::calibrate::calibrate;
use super::control::Control;
use super::host::{Host, Sink, SourceError};
use super::observing::Observing;
use super::options::{SourceOptions, TargetOptions};
use super::{events, faults, heaps, libraries, lifecycle, live, memory, tidy, tokens, unread};

/// Snapshots take at most 1 / `SNAPSHOT_SHARE` of the time, because they read the whole live map.
const SNAPSHOT_SHARE: u32 = 50;
/// Maximum interval of snapshots, because they separate cohorts.
const LONGEST: Duration = Duration::from_secs(3);

/// All targets and the kernel programs.
pub struct Source {
    host: Host,
    control: Control,
    snapshot_due: Instant,
}

impl Source {
    /// Loads the kernel programs and attaches what all targets need.
    pub fn new(options: SourceOptions) -> Result<Self, SourceError> {
        Ok(Self {
            host: Host::new(options)?,
            control: Control::new(),
            snapshot_due: Instant::now(),
        })
    }

    /// Measures the cost of probes on this host: see [`calibrate`]. Called before the first attach.
    pub fn calibrate(&mut self) -> Result<f64, SourceError> {
        calibrate(&mut self.host, &mut self.control.meter)
    }

    /// Loads all programs and traces system calls without a target, to check whether this works.
    pub fn try_all(&mut self) -> Result<(), SourceError> {
        self.host.kernel.load_all()?;
        Ok(self.host.calls.need(&mut self.host.kernel, u32::MAX)?)
    }

    /// Kernel memory that the maps hold, bytes.
    pub fn map_bytes(&self) -> u64 {
        self.host.kernel.map_bytes()
    }
}

impl Observing for Source {
    fn attach(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let options = self.host.options.target.clone();
        self.attach_with(pid, options, sink)
    }

    fn attach_with(
        &mut self,
        pid: u32,
        options: TargetOptions,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError> {
        let target = inspect(pid)?;
        begin(&mut self.host, Beginning::of(target, options), sink)
    }

    fn follow_children(&mut self, pid: u32, sink: &mut Sink<'_>) {
        lifecycle::follow_children(&mut self.host, pid, sink);
    }

    fn take_followed(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.host.followed)
    }

    fn detach(&mut self, pid: u32) {
        self.host.detach(pid);
        tidy::tidy(&mut self.host);
    }

    fn ended(&self, pid: u32) -> bool {
        let attached = self.host.attached.get(&pid);
        attached.is_none_or(|attached| attached.ended || !attached.target.is_alive())
    }

    fn limitations(&self) -> Vec<String> {
        self.host.limitations().cloned().collect()
    }

    fn wait(&self, timeout: Duration) {
        self.host.ring.wait(timeout);
    }

    fn pump(&mut self, sink: &mut Sink<'_>) {
        events::pump(&mut self.host, sink);
    }

    fn sample(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let host = &mut self.host;
        self.control.step(host, sink)?;
        libraries::meet(host, sink);
        tokens::search(host, sink);
        unread::look(host, sink);
        faults::read(host, sink);
        tidy::tidy(host);
        let readings = host.readers.iter().flat_map(Readers::readings);
        for (pid, reading) in readings {
            if let Some(attached) = host.attached.get_mut(&pid) {
                heaps::forward(&mut attached.target, reading, sink);
            }
        }
        let pids: Vec<u32> = host.attached.keys().copied().collect();
        for pid in pids {
            memory::sample(host, pid, sink);
            let losses = memory::losses(host, pid)?;
            sink(pid, Observation::Losses(losses));
            let Some(attached) = host.attached.get_mut(&pid) else {
                continue;
            };
            attached.say_full_maps(&losses);
            attached.read_runtime(now(), &mut |one| sink(pid, one));
            if !attached.ended && !attached.target.is_alive() {
                host.end(pid);
                sink(pid, Observation::Ended(now()));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, sink: &mut Sink<'_>) -> Result<bool, SourceError> {
        let begun = Instant::now();
        if begun < self.snapshot_due {
            return Ok(false);
        }
        self.snapshot_now(sink)?;
        // The first snapshots are slow because sites are symbolized; this must not delay the next ones.
        let pause = (begun.elapsed() * SNAPSHOT_SHARE).min(LONGEST);
        self.snapshot_due = Instant::now() + pause;
        Ok(true)
    }

    fn snapshot_now(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        live::snapshot(&mut self.host, sink)
    }

    fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        memory::counters(&self.host)
    }

    fn wants_opinion(&self, pid: u32) -> bool {
        let attached = self.host.attached.get(&pid);
        let windows = attached.and_then(|attached| attached.windows);
        windows.is_some_and(|windows| windows.wants_opinion())
    }

    fn set_opinion(&mut self, pid: u32, opinion: Opinion) {
        let attached = self.host.attached.get_mut(&pid);
        if let Some(windows) = attached.and_then(|attached| attached.windows.as_mut()) {
            windows.set_opinion(opinion);
        }
    }
}
