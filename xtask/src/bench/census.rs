//! `cargo xtask bench census`: effect of reading a Python service of some 500 MB on its latency, and the
//! resources that heaptide needs for it: censuses, lengths of containers, page faults and the search for
//! tokens, all as in mode `watch`, in alternating rounds.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::request_cost::{attach, median};
use super::{cpu, residency};
use crate::lab::catalog::Catalog;
use crate::lab::service;

/// Limits set by the project.
const MOST_P99: f64 = 1.05;
const MOST_RESIDENT: u64 = 64 << 20;
/// heaptide's start.
const SETTLE: Duration = Duration::from_secs(3);

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The service, a name in lab/services.toml without `python/`.
    #[arg(long, default_value = "fastapi-asyncio")]
    service: String,
    /// Pairs of rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each round: several censuses and searches.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Size in megabytes to which the service is filled.
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let name = format!("python/{}", arguments.service);
    let (python, variant) = catalog.row(&name, "big-claims")?;
    service::build(python)?;
    let server = service::start(python, &variant.name)?;
    let pid = server.process.pid();
    residency::fill(pid, server.port, arguments.megabytes * 1_000_000)?;

    let plain = || residency::p99(server.port, arguments.rate, arguments.seconds);
    println!(
        "{:>6} {:>12} {:>12} {:>8}",
        "round", "without, us", "with, us", "ratio"
    );
    let (mut ratios, mut resident) = (Vec::new(), 0);
    for number in 1..=arguments.rounds {
        // The order alternates, so that a drift of the machine affects both.
        let before = if number % 2 == 0 {
            Some(plain()?)
        } else {
            None
        };
        let total = SETTLE + Duration::from_secs(arguments.seconds) + SETTLE;
        let mut heaptide = attach(pid, "watch", &[], total)?;
        thread::sleep(SETTLE);
        let watched = plain()?;
        let own = cpu::heaptide_below(heaptide.id()).context("heaptide has ended")?;
        resident = resident.max(cpu::peak_memory(own)?.0);
        heaptide.wait().context("cannot wait for heaptide")?;
        let without = match before {
            Some(before) => before,
            None => plain()?,
        };
        let ratio = watched / without;
        println!("{number:>6} {without:>12.0} {watched:>12.0} {ratio:>8.3}");
        ratios.push(ratio);
    }
    let ratio = median(ratios);
    println!(
        "p99 x {ratio:.3}, {:.1} MiB peak in heaptide",
        resident as f64 / f64::from(1 << 20)
    );
    if ratio > MOST_P99 || resident > MOST_RESIDENT {
        bail!(
            "the limits are p99 x {MOST_P99}, {} MiB",
            MOST_RESIDENT >> 20
        );
    }
    Ok(())
}
