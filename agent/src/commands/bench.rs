//! `heaptide bench-floor` and `bench-naive` (compared by `cargo xtask bench probes`) and
//! `bench-residency`. Hidden.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    cli::{BenchTarget, ExitCode},
    kernel::{Kernel, Link},
    observe::residency,
    settings,
    values::Credential,
};
use heaptide_process::plan::programs::ALLOC_ENTER;
use heaptide_process::plan::{PlanOptions, Probe};
use heaptide_runtimes::inspect;

/// One probe on malloc, at an emulated instruction, whose program only counts.
pub(super) fn floor(args: &BenchTarget) -> Result<ExitCode> {
    run(args, |kernel, probes| {
        let malloc = probes
            .iter()
            // Aliases are planned once, under the allocator's own name (`mi_malloc`).
            .find(|probe| probe.symbol.ends_with("malloc") && probe.program == ALLOC_ENTER)
            .context("the target has no malloc")?;
        Ok(kernel.attach_counting(args.pid, malloc)?)
    })
}

/// malloc, its return and free, each at its entry: the placement of tools that do not examine the
/// code.
pub(super) fn naive(args: &BenchTarget) -> Result<ExitCode> {
    run(args, |kernel, probes| {
        let entries: Vec<Probe> = probes
            .iter()
            .filter(|probe| probe.symbol == "malloc" || probe.symbol == "free")
            .map(|probe| Probe {
                file_offset: probe.entry_offset,
                ..probe.clone()
            })
            .collect();
        let entries: Vec<&Probe> = entries.iter().collect();
        Ok(kernel.attach(args.pid, &entries)?)
    })
}

/// Number of tokens in a search: the maximum of a busy target.
const TOKENS: u64 = 16_384;

/// Searches without pauses; prints bytes and CPU seconds of each search.
pub(super) fn residency(args: &BenchTarget) -> Result<ExitCode> {
    let target = inspect(args.pid)?;
    while target.is_alive() {
        let measured = residency::measure(args.pid, TOKENS)?;
        println!("{} {}", measured.bytes, measured.cpu.as_secs_f64());
    }
    Ok(ExitCode::Success)
}

fn run(
    args: &BenchTarget,
    attach: impl FnOnce(&mut Kernel, &[Probe]) -> Result<Vec<Link>>,
) -> Result<ExitCode> {
    let target = inspect(args.pid)?;
    let options = PlanOptions {
        allocations: true,
        ..PlanOptions::default()
    };
    let probes = target.plan(&options).probes;
    let mut kernel = Kernel::load(&settings::settings(settings::CAPACITY)?)?;
    kernel.set_target(
        args.pid,
        heaptide_ebpf::TargetConfig {
            space: u64::from(args.pid) << 32,
            layout: 1,
            flags: heaptide_ebpf::target_flags::ALLOCATIONS,
            interval: 0,
            slot: 0,
            credential: settings::pattern(&Credential::Bearer)?,
        },
    )?;
    let _links = attach(&mut kernel, &probes)?;
    crate::outputs::file::tell(&format!("attached to pid {}", args.pid));
    while target.is_alive() {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(ExitCode::Success)
}
