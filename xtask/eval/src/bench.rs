//! Costs of the judge: bytes of state with all series taken, CPU with a thousand series.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use heaptide_judge::events::{
    Binding, Fingerprint, Frame, FrameKind, LiveGroup, MemoryKind, Nanos, Observation, Request,
    RequestId, Site, SiteId, Snapshot,
};
use heaptide_judge::growth::MOST_SERIES;
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};

/// Limits set by the project.
const MOST_STATE: usize = 16 << 20;
const MOST_CORE: f64 = 0.02;
/// Simulated seconds, requests per second, seconds between snapshots.
const SECONDS: u64 = 600;
const RATE: u64 = 200;
const INTERVAL: u64 = 5;

/// Measures both and fails if one is over its limit.
pub(crate) fn run() -> Result<()> {
    let (state, _) = measure(MOST_SERIES as u64)?;
    let (_, core) = measure(1_000)?;
    println!(
        "{MOST_SERIES} series  {:6.1} MiB of state  (limit {} MiB)",
        state as f64 / f64::from(1 << 20),
        MOST_STATE >> 20
    );
    println!(
        "1000 series  {:6.2} % of a core  (limit {} %): {RATE} requests/s, a snapshot and a report every {INTERVAL} s",
        100.0 * core,
        100.0 * MOST_CORE
    );
    if state > MOST_STATE || core > MOST_CORE {
        bail!("the judge is over its limits");
    }
    Ok(())
}

/// Bytes of state and fraction of a core, with so many leaking functions.
fn measure(series: u64) -> Result<(usize, f64)> {
    let mut pipeline = Pipeline::new(JudgeOptions::default());
    for id in 0..series {
        pipeline.observe(&site(id));
    }
    let mut groups = Vec::new();
    let mut spent = 0;
    for second in 0..SECONDS {
        let now = Nanos((1_000 + second) * 1_000_000_000);
        let mut observations = Vec::new();
        for n in 0..RATE {
            let id = second * RATE + n + 1;
            observations.push(request(id, now));
            // every fourth request leaves a block; all functions take turns
            if n % 4 == 0 {
                groups.push(group(id / 4 % series, id, now));
            }
        }
        if second % INTERVAL == INTERVAL - 1 {
            observations.push(Observation::Snapshot(Snapshot {
                at: now,
                groups: groups.clone(),
                returned: None,
            }));
        }
        // counts the judge only, not the generator of its input
        let began = cpu_nanos()?;
        for observation in &observations {
            pipeline.observe(observation);
        }
        if second % INTERVAL == INTERVAL - 1 {
            std::hint::black_box(pipeline.report());
        }
        spent += cpu_nanos()? - began;
    }
    Ok((pipeline.state_bytes(), spent as f64 / 1e9 / SECONDS as f64))
}

/// CPU time of this thread: wall time would include other processes.
fn cpu_nanos() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .context("the kernel does not report the run time of threads")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("schedstat begins with a number")
}

fn site(id: u64) -> Observation {
    let frame = Frame {
        function: format!("leak_{id}"),
        file: None,
        line: None,
        module: "service".to_owned(),
        kind: FrameKind::User,
    };
    Observation::Site(Site {
        id: SiteId(id),
        stack: Arc::new([frame]),
        truncated: false,
    })
}

fn request(id: u64, end: Nanos) -> Observation {
    Observation::Request(Request {
        id: RequestId(id),
        start: end,
        end,
        head: "GET /api/data".to_owned(),
        token: Some(Fingerprint((id / 2).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
        status: Some(200),
        binding: Binding::Exact,
        body_bytes: 0,
        token_uncertain: false,
        path_cut: false,
        again: false,
    })
}

fn group(site: u64, request: u64, born: Nanos) -> LiveGroup {
    LiveGroup {
        site: SiteId(site),
        request: Some(RequestId(request)),
        binding: Binding::Exact,
        born,
        blocks: 1.0,
        bytes: 100.0,
        seen: 1,
        variance: 0.0,
        kind: MemoryKind::Heap,
        size: 0,
    }
}
