//! What is read now and then: the live map, memory, counters.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use heaptide_ebpf::{BlockKey, Counter, SITE_PROVISIONAL};
use tracing::debug;

use super::{Sink, Source, SourceError, now, snapshot::Groups};
use crate::kernel::Counters;
use heaptide_judge::events::{Losses, Observation, Snapshot};
use heaptide_process::limits::limits;

/// Snapshots take at most one part in so many of the time (they read the whole live map).
const SNAPSHOT_SHARE: u32 = 50;
/// And yet come this often: cohorts are told apart by snapshots.
const LONGEST: Duration = Duration::from_secs(3);

impl Source {
    /// Reads the live map and says what is live, unless the last reading was so expensive that it is
    /// not due yet. Returns whether it was read.
    pub fn snapshot(&mut self, sink: &mut Sink<'_>) -> Result<bool, SourceError> {
        let begun = Instant::now();
        if begun < self.snapshot_due {
            return Ok(false);
        }
        self.snapshot_now(sink)?;
        // The first ones are slow because sites are named; that must not hold up the next.
        let pause = (begun.elapsed() * SNAPSHOT_SHARE).min(LONGEST);
        self.snapshot_due = Instant::now() + pause;
        Ok(true)
    }

    /// The same, due or not.
    pub fn snapshot_now(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let at = now();
        let mut groups: HashMap<u64, Groups> = HashMap::new();
        let mut copies: HashSet<u64> = HashSet::new();
        let mut stale: Vec<BlockKey> = Vec::new();
        let observed: HashSet<u64> = self
            .watched
            .values()
            .filter(|watched| !watched.ended)
            .map(|watched| watched.config.space)
            .collect();
        self.kernel.live_blocks(|key, block| {
            if !observed.contains(&key.space) {
                stale.push(*key);
                return;
            }
            if block.site & SITE_PROVISIONAL != 0 {
                copies.insert(block.site);
            }
            groups.entry(key.space).or_default().add(block);
        })?;
        // The copies of stacks that these blocks refer to are in the ring by now. A process may
        // exec meanwhile: its space is another one then, and its groups are dropped.
        self.pump(sink);
        self.kernel.remove_blocks(&stale);
        for (pid, watched) in &mut self.watched {
            if watched.ended || !watched.allocating() {
                continue;
            }
            let mut all = Vec::new();
            let mut groups = groups.remove(&watched.config.space).unwrap_or_default();
            watched.add_objects(&mut groups, at);
            watched.resolve_groups(&self.kernel, groups, &mut all, &mut |one| sink(*pid, one));
            all.extend(watched.mappings(&self.kernel, &mut |one| sink(*pid, one)));
            watched.prune(&copies, at);
            sink(*pid, Observation::Snapshot(Snapshot { at, groups: all }));
        }
        Ok(())
    }

    /// Reads memory and losses of every target. To be called every second.
    pub fn sample(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        self.turn_windows(sink)?;
        self.turn_requests(sink);
        self.untrace_calls();
        self.meet_libraries(sink);
        self.search_for_tokens(sink);
        self.read_faults(sink);
        self.take_readings(sink);
        for pid in self.pids() {
            self.sample_one(pid, sink);
            sink(pid, Observation::Losses(self.losses(pid)?));
            if let Some(watched) = self.watched.get_mut(&pid) {
                watched.read_runtime(now(), &mut |one| sink(pid, one));
            }
            if let Some(watched) = self.watched.get_mut(&pid)
                && !watched.ended
                && !watched.target.is_alive()
            {
                watched.ended = true;
                self.kernel.remove_target(pid);
                sink(pid, Observation::Ended(now()));
            }
        }
        Ok(())
    }

    /// Reads the memory of one target.
    pub(super) fn sample_one(&self, pid: u32, sink: &mut Sink<'_>) {
        match limits(pid, self.options_of(pid).memory_limit) {
            Ok(sample) => sink(pid, Observation::Memory(sample)),
            Err(why) => debug!(pid, "no memory sample: {why}"),
        }
    }

    /// The kernel's counters of all targets by name, since the calibration.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        let rows = Counter::ALL.iter().zip(self.totals()?).zip(&self.counted);
        Ok(rows
            .map(|((counter, now), then)| (counter.name(), now - then))
            .collect())
    }

    /// The counters of all targets.
    pub(super) fn totals(&self) -> Result<Counters, SourceError> {
        let mut sums = [0; Counter::COUNT];
        for slot in self.slots.used() {
            for (sum, part) in sums.iter_mut().zip(self.kernel.counters(slot)?) {
                *sum += part;
            }
        }
        Ok(sums)
    }

    /// Kernel memory that the maps hold, bytes.
    pub fn map_bytes(&self) -> u64 {
        self.kernel.map_bytes()
    }

    /// Losses and cost of one target so far; what could not be decoded counts against every one.
    pub fn losses(&self, pid: u32) -> Result<Losses, SourceError> {
        let (slot, counted) = self
            .watched
            .get(&pid)
            .map_or((0, &self.counted), |one| (one.config.slot, &one.counted));
        let requests_cost = self.watched.get(&pid).map_or(0.0, |one| one.seeing.spent);
        let counters = self.kernel.counters(slot)?;
        let of = |counter: Counter| {
            let index = counter as usize;
            counters[index].saturating_sub(counted[index])
        };
        let usage = own_usage();
        let hits = of(Counter::AllocHits) + of(Counter::FreeHits);
        Ok(Losses {
            at: now(),
            alloc_hits: of(Counter::AllocHits),
            free_hits: of(Counter::FreeHits),
            tracked: of(Counter::Tracked),
            freed: of(Counter::Freed),
            sampled_out: of(Counter::SampledOut),
            unknown_frees: of(Counter::UnknownFrees),
            lost_frees: of(Counter::LostFrees),
            missed_returns: of(Counter::MissedReturns),
            inflight_full: of(Counter::InflightFull),
            map_full: of(Counter::MapFull),
            threads_full: of(Counter::ThreadsFull),
            stacks_full: of(Counter::StacksFull),
            stacks_truncated: of(Counter::StacksTruncated),
            ring_full: of(Counter::RingFull) + self.undecodable,
            requests: of(Counter::Requests),
            requests_lost: of(Counter::RequestsLost),
            read_faults: of(Counter::ReadFaults),
            syscalls: of(Counter::Syscalls),
            probe_seconds: hits as f64 / 2.0 * self.pair_cost_ns / 1e9 + requests_cost,
            agent_cpu_seconds: usage.0,
            agent_rss: usage.1,
            map_bytes: self.kernel.map_bytes(),
        })
    }
}

/// CPU seconds and resident bytes of the agent itself.
pub(super) fn own_usage() -> (f64, u64) {
    // SAFETY: zeroed is a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    (
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
        pages * 4096,
    )
}
