//! `cargo xtask bench go`: how many requests Go services serve with heaptide attached and without, side by
//! side in alternating rounds: once with requests and heap watched, once with objects followed too.

use anyhow::{Result, ensure};

use super::python::{Rounds, measure};
use crate::lab::catalog::Catalog;
use crate::lab::service;

/// heaptide's modes and what the issue allows for each.
const MODES: [(&str, f64); 2] = [("watch", 0.97), ("trace", 0.90)];

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The services, names in lab/services.toml without `go/`.
    #[arg(long, value_delimiter = ',', default_value = "echo-1.25,nethttp-1.23")]
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
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let rounds = Rounds {
        number: arguments.rounds,
        seconds: arguments.seconds,
        connections: arguments.connections,
    };
    let mut rows = Vec::new();
    for name in &arguments.services {
        let (go, _) = catalog.row(&format!("go/{name}"), "lru-1024")?;
        service::build(go)?;
        for (mode, limit) in MODES {
            rows.push((name, mode, limit, measure(go, &rounds, mode)?));
        }
    }
    println!("\n{:<20} {:<6} with / without", "service", "mode");
    for (name, mode, limit, ratio) in &rows {
        println!("{name:<20} {mode:<6} {ratio:.3} (at least {limit})");
    }
    let slow = rows.iter().filter(|row| row.3 < row.2).count();
    ensure!(slow == 0, "{slow} of them serve less than is allowed");
    Ok(())
}
