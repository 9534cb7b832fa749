//! Memory, losses and cost of each target, and heaptide's own usage.

use std::{collections::BTreeMap, fs};

use heaptide_ebpf::Counter;
use heaptide_judge::events::{Losses, Observation};
use heaptide_process::{clocks::now, limits::limits};
use tracing::debug;

use super::host::{Host, Sink, SourceError};
use crate::kernel::Counters;

/// Cost of copying a stack in nanoseconds, besides the hit of its probe: 64 reads of the target's memory and a wakeup.
/// It is not part of the calibrated cost of a hit, because copies end when the rules are known. An estimate.
const COPY_NS: f64 = 5_000.0;

/// Reads the memory of one target.
pub(super) fn sample(host: &Host, pid: u32, sink: &mut Sink<'_>) {
    let attached = host.attached.get(&pid);
    let limit = attached.and_then(|attached| attached.options.memory_limit);
    match limits(pid, limit) {
        Ok(sample) => sink(pid, Observation::Memory(sample)),
        Err(why) => debug!(pid, "cannot sample the process's memory usage: {why}"),
    }
}

/// The counters of all targets by name, since the calibration.
pub(super) fn counters(host: &Host) -> Result<BTreeMap<&'static str, u64>, SourceError> {
    let rows = Counter::ALL.iter().zip(totals(host)?).zip(&host.counted);
    let rows = rows.map(|((counter, now), then)| (counter.name(), now - then));
    let mut counters: BTreeMap<_, _> = rows.collect();
    *counters.entry(Counter::RingFull.name()).or_default() += lost_here(host);
    Ok(counters)
}

/// Records that the kernel sent and heaptide did not process.
fn lost_here(host: &Host) -> u64 {
    host.ring.lost() + host.lost_mappings
}

/// The counters of all targets.
pub(super) fn totals(host: &Host) -> Result<Counters, SourceError> {
    let mut sums = [0; Counter::COUNT];
    for slot in host.slots.used() {
        for (sum, part) in sums.iter_mut().zip(host.kernel.counters(slot)?) {
            *sum += part;
        }
    }
    Ok(sums)
}

/// Losses and cost of one target so far; undecodable records count for every target.
pub(super) fn losses(host: &Host, pid: u32) -> Result<Losses, SourceError> {
    let attached = host.attached.get(&pid);
    let (slot, counted) =
        attached.map_or((0, &host.counted), |one| (one.config.slot, &one.counted));
    let requests_cost = attached.map_or(0.0, |one| one.requests_cost.spent());
    let rules_lost = attached.map_or(0, |one| host.rules.lost(one.config.layout));
    let counters = host.kernel.counters(slot)?;
    let of = |counter: Counter| {
        let index = counter as usize;
        counters[index].saturating_sub(counted[index])
    };
    let usage = own_usage();
    let hits = of(Counter::AllocHits) + of(Counter::FreeHits);
    let copies = of(Counter::StacksCopied) as f64 * COPY_NS / 1e9;
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
        stacks_full: of(Counter::StacksFull) + rules_lost,
        stacks_truncated: of(Counter::StacksTruncated),
        ring_full: of(Counter::RingFull) + lost_here(host),
        requests: of(Counter::Requests),
        requests_lost: of(Counter::RequestsLost),
        read_faults: of(Counter::ReadFaults),
        syscalls: of(Counter::Syscalls),
        probe_seconds: hits as f64 / 2.0 * host.pair_cost_ns / 1e9 + copies + requests_cost,
        agent_cpu_seconds: usage.0,
        agent_rss: usage.1,
        map_bytes: host.kernel.map_bytes(),
    })
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
