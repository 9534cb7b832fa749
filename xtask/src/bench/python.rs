//! `cargo xtask bench python`: throughput of each Python framework with and without heaptide.

use anyhow::{Result, bail};

use super::cycle::{Cycles, measure};
use crate::lab::catalog::Catalog;
use crate::lab::service;

/// Limit set by the project.
const LIMIT_RATIO: f64 = 0.97;

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
    #[command(flatten)]
    cycles: Cycles,
    /// heaptide's mode.
    #[arg(long, default_value = "watch")]
    mode: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let mut rows = Vec::new();
    for name in &arguments.services {
        let (python, _) = catalog.row(&format!("python/{name}"), "lru-1024")?;
        service::build(python)?;
        rows.push((name, measure(python, &arguments.cycles, &arguments.mode)?));
    }
    println!(
        "\n{:<20} {:>8} {:>8} {:>8} {:>8}",
        "with / without", "window", "pause", "whole", "own CPU"
    );
    for (name, ratios) in &rows {
        println!(
            "{name:<20} {:>8.3} {:>8.3} {:>8.3} {:>6.2} %",
            ratios.window,
            ratios.pause,
            ratios.whole,
            ratios.own * 100.0
        );
    }
    if let Some((name, ratios)) = rows.iter().find(|row| !row.1.hold(LIMIT_RATIO)) {
        bail!(
            "{name} serves {:.3} of what it serves without, less than {LIMIT_RATIO}",
            ratios.whole
        );
    }
    Ok(())
}
