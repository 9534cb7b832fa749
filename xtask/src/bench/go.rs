//! `cargo xtask bench go`: throughput of Go services with and without heaptide: once with requests and heap observed,
//! once with objects sampled too.

use anyhow::{Result, ensure};

use super::cycle::{Cycles, measure};
use crate::lab::catalog::Catalog;
use crate::lab::service;

/// heaptide's modes, and the limit for each.
const MODES: [(&str, f64); 2] = [("watch", 0.97), ("sample", 0.90)];

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The services, names in lab/services.toml without `go/`.
    #[arg(long, value_delimiter = ',', default_value = "echo-1.25,nethttp-1.23")]
    services: Vec<String>,
    /// Only this mode.
    #[arg(long)]
    mode: Option<String>,
    #[command(flatten)]
    cycles: Cycles,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let wanted = |mode: &str| arguments.mode.as_deref().is_none_or(|only| only == mode);
    let mut rows = Vec::new();
    for name in &arguments.services {
        let (go, _) = catalog.row(&format!("go/{name}"), "lru-1024")?;
        service::build(go)?;
        for (mode, limit) in MODES.into_iter().filter(|(mode, _)| wanted(mode)) {
            rows.push((name, mode, limit, measure(go, &arguments.cycles, mode)?));
        }
    }
    ensure!(!rows.is_empty(), "the modes are watch and sample");
    println!(
        "\n{:<20} {:<6} {:>8} {:>8} {:>8} {:>8}",
        "with / without", "mode", "window", "pause", "whole", "own CPU"
    );
    for (name, mode, limit, ratios) in &rows {
        println!(
            "{name:<20} {mode:<6} {:>8.3} {:>8.3} {:>8.3} {:>6.2} % (at least {limit})",
            ratios.window,
            ratios.pause,
            ratios.whole,
            ratios.own * 100.0
        );
    }
    let slow = rows.iter().filter(|row| !row.3.hold(row.2)).count();
    ensure!(slow == 0, "{slow} of them are slower than allowed");
    Ok(())
}
