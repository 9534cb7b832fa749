//! `cargo xtask bench python`: how many requests each Python framework serves with heaptide attached
//! and without, side by side in alternating rounds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::request_cost::{median, while_attached};
use crate::lab::catalog::{Catalog, Service};
use crate::lab::{http, service};

/// What the issue allows.
const LIMIT_RATIO: f64 = 0.97;
/// heaptide's start, and the settling of the server after a change.
const SETTLE: Duration = Duration::from_secs(4);
/// A cache that is full: there is something to look at, and it does not grow from round to round.
const VARIANT: &str = "lru-1024";
const FILLING: Duration = Duration::from_secs(5);

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The services, names in lab/services.toml without `python/`.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "flask-sync,django-sync,fastapi-asyncio"
    )]
    services: Vec<String>,
    /// Pairs of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// heaptide's mode.
    #[arg(long, default_value = "watch")]
    mode: String,
}

impl Arguments {
    fn rounds(&self) -> Rounds {
        Rounds {
            number: self.rounds,
            seconds: self.seconds,
            connections: self.connections,
        }
    }
}

/// How often and how long throughput is measured.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    /// Pairs of rounds.
    pub(super) number: usize,
    /// Seconds of each.
    pub(super) seconds: u64,
    /// Connections of the load generator.
    pub(super) connections: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let mut ratios = Vec::new();
    for name in &arguments.services {
        let (python, _) = catalog.row(&format!("python/{name}"), VARIANT)?;
        service::build(python)?;
        ratios.push((name, measure(python, &arguments.rounds(), &arguments.mode)?));
    }
    println!("\n{:<20} with / without", "service");
    for (name, ratio) in &ratios {
        println!("{name:<20} {ratio:.3}");
    }
    if let Some((name, ratio)) = ratios.iter().find(|(_, ratio)| *ratio < LIMIT_RATIO) {
        bail!("{name} serves {ratio:.3} of what it serves without, less than {LIMIT_RATIO}");
    }
    Ok(())
}

/// The median over rounds of (requests/s with heaptide) / (without).
pub(super) fn measure(measured: &Service, rounds: &Rounds, mode: &str) -> Result<f64> {
    let server = service::start(measured, VARIANT)?;
    let pid = server.process.pid();
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let round = Duration::from_secs(rounds.seconds);
    let pair = 2 * round + 3 * SETTLE + Duration::from_secs(4);
    let total = FILLING + pair * u32::try_from(rounds.number)?;
    let mut words = vec!["--closed-loop".to_owned(), "--connections".to_owned()];
    words.push(rounds.connections.to_string());
    let mut load = service::load(
        server.port,
        1,
        total.as_secs() + 10,
        &folder.path().join("load.json"),
        &words,
    )?;
    thread::sleep(FILLING);

    println!("\n{}/{VARIANT}, mode {mode}", measured.name);
    println!(
        "{:>6} {:>12} {:>12} {:>8}",
        "round", "without", "with", "ratio"
    );
    let mut ratios = Vec::new();
    for number in 1..=rounds.number {
        // Alternating which comes first, so that a drift of the machine falls on both alike.
        let (plain, watched) = if number % 2 == 1 {
            let plain = throughput(server.port, round)?;
            (plain, attached(pid, server.port, round, mode)?)
        } else {
            let watched = attached(pid, server.port, round, mode)?;
            (throughput(server.port, round)?, watched)
        };
        println!(
            "{number:>6} {plain:>12.0} {watched:>12.0} {:>8.3}",
            watched / plain
        );
        ratios.push(watched / plain);
        ensure!(load.is_alive(), "the load generator ended early");
    }
    Ok(median(ratios))
}

/// Requests per second with heaptide attached.
fn attached(pid: u32, port: u16, round: Duration, mode: &str) -> Result<f64> {
    let total = SETTLE + round + SETTLE;
    while_attached(pid, mode, SETTLE, total, || throughput(port, round))
}

/// Requests per second over some time, by the service's own books.
fn throughput(port: u16, duration: Duration) -> Result<f64> {
    let served = || -> Result<f64> {
        http::truth(port)?["total_requests"]
            .as_f64()
            .context("/truth has no total_requests")
    };
    let (before, began) = (served()?, Instant::now());
    thread::sleep(duration);
    let after = served()?;
    Ok((after - before) / began.elapsed().as_secs_f64())
}
