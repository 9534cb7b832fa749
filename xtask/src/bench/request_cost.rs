//! `cargo xtask bench request-cost`: CPU time per request of a trivial C++ server with 1 KiB heads, with
//! and without heaptide, in alternating rounds.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::cpu;
use crate::lab::catalog::Catalog;
use crate::lab::{http, observe, service};

/// Limit set by the project.
const LIMIT_MICROSECONDS: f64 = 15.0;
/// Time for heaptide's start, and for the server to settle after a change.
const SETTLE: Duration = Duration::from_secs(4);

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Pairs of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Bytes of each head.
    #[arg(long, default_value_t = 1024)]
    head_bytes: usize,
    /// heaptide's mode.
    #[arg(long, default_value = "watch")]
    mode: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let (cpp, variant) = catalog.row("cpp", "stateless")?;
    service::build(cpp)?;

    let server = service::start(cpp, &variant.name)?;
    let pid = server.process.pid();
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let round = Duration::from_secs(arguments.seconds);
    let total = arguments.rounds as u64 * 2 * (arguments.seconds + SETTLE.as_secs() + 4) + 10;
    let load = [
        "--routes",
        "GET /health=1",
        "--fresh",
        "0.5",
        "--repeat",
        "0.5",
    ];
    let mut more: Vec<String> = load.iter().map(|&word| word.to_owned()).collect();
    more.extend(["--head-bytes".to_owned(), arguments.head_bytes.to_string()]);
    let _load = service::load(
        server.port,
        arguments.rate,
        total,
        &folder.path().join("load.json"),
        &more,
    )?;
    thread::sleep(Duration::from_secs(2));

    println!(
        "{} requests/s, heads of {} bytes, mode {}",
        arguments.rate, arguments.head_bytes, arguments.mode
    );
    println!(
        "{:>6} {:>14} {:>14} {:>10} {:>14}",
        "round", "without, us", "with, us", "added", "reported, us"
    );
    let (mut without, mut with, mut reported) = (Vec::new(), Vec::new(), Vec::new());
    let report = folder.path().join("report.json");
    for number in 1..=arguments.rounds {
        let plain = per_request(pid, server.port, round)?;
        let total = SETTLE + round + SETTLE;
        let output = ["--output".as_ref(), report.as_os_str()];
        let watched = while_attached(pid, &arguments.mode, &output, SETTLE, total, || {
            per_request(pid, server.port, round)
        })?;
        let said = own_figure(&report)?;
        println!(
            "{number:>6} {plain:>14.2} {watched:>14.2} {:>10.2} {said:>14.2}",
            watched - plain
        );
        without.push(plain);
        with.push(watched);
        reported.push(said);
    }
    let added = median(
        with.iter()
            .zip(&without)
            .map(|(with, without)| with - without)
            .collect(),
    );
    println!(
        "median {:>13.2} {:>14.2} {added:>10.2} {:>14.2}  us of server CPU per request",
        median(without),
        median(with),
        median(reported)
    );
    if added > LIMIT_MICROSECONDS {
        bail!("{added:.2} us per request is more than {LIMIT_MICROSECONDS}");
    }
    Ok(())
}

/// Measures while heaptide is attached to a process for `total`, beginning `settle` after its start.
pub(super) fn while_attached<T>(
    pid: u32,
    mode: &str,
    more: &[&OsStr],
    settle: Duration,
    total: Duration,
    measure: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut attached = attach(pid, mode, more, total)?;
    thread::sleep(settle);
    let measured = measure()?;
    if attached
        .try_wait()
        .context("cannot wait for heaptide")?
        .is_some()
    {
        bail!("heaptide ended within the round");
    }
    attached.wait().context("cannot wait for heaptide")?;
    Ok(measured)
}

/// Attaches heaptide to a process for some time.
pub(super) fn attach(pid: u32, mode: &str, more: &[&OsStr], duration: Duration) -> Result<Child> {
    observe::heaptide()
        .args(["attach", &pid.to_string(), "--mode", mode])
        .args(more)
        .args([
            "--for",
            &format!("{}s", duration.as_secs()),
            "--format",
            "json",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start heaptide")
}

/// Microseconds per traced request by heaptide's own account.
fn own_figure(report: &Path) -> Result<f64> {
    let text = fs::read(report).context("heaptide wrote no report")?;
    let report: Value = serde_json::from_slice(&text).context("heaptide's report is not JSON")?;
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("heaptide's report has no {pointer}"))
    };
    Ok(number("/health/probe_seconds")? * 1e6 / number("/window/requests")?.max(1.0))
}

/// Microseconds of the server's CPU time per request over some time.
fn per_request(pid: u32, port: u16, duration: Duration) -> Result<f64> {
    let requests = || -> Result<u64> {
        http::truth(port)?["total_requests"]
            .as_u64()
            .context("/truth has no total_requests")
    };
    let (requests_before, cpu_before) = (requests()?, cpu::time(pid)?);
    let began = Instant::now();
    thread::sleep(duration);
    let (cpu_after, requests_after) = (cpu::time(pid)?, requests()?);
    let served = requests_after - requests_before;
    if served == 0 {
        bail!("no request in {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(cpu_after.saturating_sub(cpu_before).as_secs_f64() * 1e6 / served as f64)
}

/// The median.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2))
}
