//! `cargo xtask bench go-soak`: a Go service under full load, whose goroutine stacks grow and shrink with every
//! request, while heaptide attaches and detaches every few seconds. It must answer every request.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::request_cost::attach;
use crate::lab::catalog::Catalog;
use crate::lab::{http, observe, service};

/// Alternating modes.
const MODES: [&str; 3] = ["trace", "watch", "sample"];

/// How long, and what.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The services, names in lab/services.toml without `go/`: the time is shared among them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "echo-1.23,nethttp-stripped-1.25,echo-1.27"
    )]
    services: Vec<String>,
    /// Total duration.
    #[arg(long = "for", default_value = "600s")]
    duration: String,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 32)]
    connections: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let seconds = observe::seconds(&arguments.duration)? / arguments.services.len().max(1) as u64;
    for name in &arguments.services {
        let name = format!("go/{name}");
        let row = catalog.services.iter().find(|service| service.name == name);
        let go = row.with_context(|| format!("no {name} in lab/services.toml"))?;
        service::build(go)?;
        soak(go, seconds, arguments.connections)?;
    }
    Ok(())
}

fn soak(go: &crate::lab::catalog::Service, seconds: u64, connections: u32) -> Result<()> {
    let mut server = service::start(go, "deep-stacks")?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let path = folder.path().join("load.json");
    let words = ["--closed-loop", "--connections", &connections.to_string()];
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let mut load = service::load(server.port, 1, seconds, &path, &words)?;
    let began = Instant::now();
    let mut attached = 0;
    while load.is_alive() && began.elapsed().as_secs() < seconds {
        let mode = MODES[attached % MODES.len()];
        let pid = server.process.pid();
        let status = attach(pid, mode, &[], Duration::from_secs(2))?.wait();
        ensure!(
            status.context("cannot wait for heaptide")?.success(),
            "heaptide failed"
        );
        attached += 1;
        ensure!(server.process.is_alive(), "the service did not survive");
    }
    load.wait().context("the load generator")?;
    let sent: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let answered = http::truth(server.port)?["total_requests"].as_u64();
    println!(
        "{}: {seconds} s, attached {attached} times, {} requests served, {} failed",
        go.name,
        answered.unwrap_or(0),
        sent["failed"]
    );
    ensure!(sent["failed"] == 0, "requests were not answered");
    Ok(())
}
