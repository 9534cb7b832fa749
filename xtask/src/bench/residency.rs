//! `cargo xtask bench residency`: speed of searching the memory of a service of some 500 MB for tokens,
//! and the effect on its latency, in alternating rounds. The service keeps large tokens and their
//! claims, so its memory is nearly all text, which is the slowest to search.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::cpu;
use crate::lab::catalog::Catalog;
use crate::lab::{observe, service};

/// Limits set by the project.
const LEAST_SPEED: f64 = 500e6;
const MOST_P99: f64 = 1.05;
const MOST_RESIDENT: u64 = 64 << 20;
/// Concurrent connections, each with its own pace.
const CONNECTIONS: u64 = 4;
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n";

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Pairs of rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Size in megabytes to which the service is filled.
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let (axum, variant) = catalog.row("axum", "big-claims")?;
    service::build(axum)?;
    let server = service::start(axum, &variant.name)?;
    let pid = server.process.pid();
    fill(pid, server.port, arguments.megabytes * 1_000_000)?;

    println!(
        "{:>6} {:>12} {:>10} {:>10} {:>8}",
        "round", "MB/s of CPU", "p99, us", "searched", "ratio"
    );
    let (mut speeds, mut ratios, mut resident) = (Vec::new(), Vec::new(), 0);
    for number in 1..=arguments.rounds {
        // The order alternates, so that a drift of the machine affects both.
        let mut plain = None;
        if number % 2 == 0 {
            plain = Some(p99(server.port, arguments.rate, arguments.seconds)?);
        }
        let search = Search::start(pid)?;
        let searched = p99(server.port, arguments.rate, arguments.seconds)?;
        let (speed, peak) = search.finish()?;
        let plain = match plain {
            Some(plain) => plain,
            None => p99(server.port, arguments.rate, arguments.seconds)?,
        };
        let ratio = searched / plain;
        println!(
            "{number:>6} {:>12.0} {plain:>10.0} {searched:>10.0} {ratio:>8.3}",
            speed / 1e6
        );
        speeds.push(speed);
        ratios.push(ratio);
        resident = resident.max(peak);
    }
    let (speed, ratio) = (median(speeds), median(ratios));
    println!(
        "median {:.0} MB per CPU second, p99 x {ratio:.3}, {:.1} MiB peak in heaptide",
        speed / 1e6,
        resident as f64 / f64::from(1 << 20)
    );
    if speed < LEAST_SPEED || ratio > MOST_P99 || resident > MOST_RESIDENT {
        bail!(
            "the limits are {} MB/s, p99 x {MOST_P99}, {} MiB",
            LEAST_SPEED / 1e6,
            MOST_RESIDENT >> 20
        );
    }
    Ok(())
}

/// Makes the service keep tokens until it has this size.
pub(super) fn fill(pid: u32, port: u16, bytes: u64) -> Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let more = [
        "--routes",
        "GET /api/data=1",
        "--fresh",
        "1",
        "--repeat",
        "0",
        "--claims-bytes",
        "12000",
    ];
    let more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
    let load = service::load(port, 800, 240, &folder.path().join("load.json"), &more)?;
    let began = Instant::now();
    while cpu::resident(pid)? < bytes {
        ensure!(
            began.elapsed() < Duration::from_secs(240),
            "the service does not grow: {} bytes",
            cpu::resident(pid)?
        );
        thread::sleep(Duration::from_millis(200));
    }
    drop(load);
    thread::sleep(Duration::from_secs(2));
    println!("a service of {:.0} MB", cpu::resident(pid)? as f64 / 1e6);
    Ok(())
}

/// heaptide, searching without pauses.
struct Search {
    child: Child,
    lines: Arc<Mutex<Vec<(f64, f64)>>>,
}

impl Search {
    fn start(pid: u32) -> Result<Self> {
        let mut child = observe::heaptide()
            .args(["bench-residency", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start heaptide")?;
        let output = child.stdout.take().context("its output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut words = line.split(' ').map(str::parse::<f64>);
                if let (Some(Ok(bytes)), Some(Ok(seconds))) = (words.next(), words.next()) {
                    let mut lines = read.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.push((bytes, seconds));
                }
            }
        });
        thread::sleep(Duration::from_millis(300));
        Ok(Self { child, lines })
    }

    /// Bytes per CPU second, and its peak memory.
    fn finish(mut self) -> Result<(f64, u64)> {
        let pid = cpu::heaptide_below(self.child.id()).context("heaptide has ended")?;
        let peak = cpu::peak_memory(pid)?.0;
        // SAFETY: plain numbers; the process is our child or a child of it.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        self.child.wait().context("cannot wait for heaptide")?;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!lines.is_empty(), "no search was finished in the round");
        let sum = lines
            .iter()
            .fold((0.0, 0.0), |sum, line| (sum.0 + line.0, sum.1 + line.1));
        Ok((sum.0 / sum.1, peak))
    }
}

/// Sends requests at a rate for some seconds; the 99th percentile of the latency, in microseconds.
pub(super) fn p99(port: u16, rate: u64, seconds: u64) -> Result<f64> {
    let pause = Duration::from_secs(1) * CONNECTIONS as u32 / rate as u32;
    let count = seconds * rate / CONNECTIONS;
    let askers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            thread::spawn(move || -> Result<Vec<f64>> {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                let mut latencies = Vec::new();
                let mut due = Instant::now() + pause * number as u32 / CONNECTIONS as u32;
                let mut answer = [0; 4096];
                for _ in 0..count {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // For a request that is sent late, because this thread overslept, only its own time
                    // counts.
                    let begun = Instant::now();
                    stream.write_all(REQUEST)?;
                    ensure!(
                        stream.read(&mut answer)? > 0,
                        "the service closed the connection"
                    );
                    latencies.push(begun.elapsed().as_secs_f64() * 1e6);
                    due += pause;
                }
                Ok(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for asker in askers {
        match asker.join() {
            Ok(latencies) => all.extend(latencies?),
            Err(_) => bail!("a client thread panicked"),
        }
    }
    all.sort_by(f64::total_cmp);
    let place = all.len() * 99 / 100;
    all.get(place).copied().context("no request was answered")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
