//! Drives a service of the lab, at a given rate (open loop) or as fast as it answers, and records the
//! requests. An interrupt ends it early.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::sync::mpsc;

mod connection;
mod random;
mod requests;
mod tokens;
mod truth;

use connection::{Queue, Wire};
use requests::{Mix, Plan};
use truth::Truth;

/// What to send.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// The service; loopback only.
    #[arg(long)]
    target: SocketAddr,
    /// Requests per second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// No rate: each connection sends its next request after a response.
    #[arg(long)]
    closed_loop: bool,
    /// Duration in seconds (`60s` or `60`).
    #[arg(long = "for", default_value = "60s", value_parser = seconds)]
    duration: Duration,
    /// Connections, 1 to 64.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Fraction of the requests with a new token.
    #[arg(long, default_value_t = 0.4)]
    fresh: f64,
    /// Fraction of the requests with a token from the pool; the rest has none.
    #[arg(long, default_value_t = 0.4)]
    repeat: f64,
    /// Tokens in the pool.
    #[arg(long, default_value_t = 50)]
    pool: u64,
    /// Mean number of new tokens per subject.
    #[arg(long, default_value_t = 1)]
    tokens_per_subject: u64,
    /// Bytes of custom claims in each token.
    #[arg(long, default_value_t = 0)]
    claims_bytes: usize,
    /// Routes and their weights.
    #[arg(
        long,
        default_value = "GET /api/data=6,GET /api/profile=2,POST /api/upload=1,GET /health=1,GET /users/{id}=1"
    )]
    routes: String,
    /// Smallest and largest upload.
    #[arg(long, default_value = "1024-16384")]
    body_bytes: String,
    /// Pad each head to this many bytes.
    #[arg(long, default_value_t = 0)]
    head_bytes: usize,
    /// One connection per request.
    #[arg(long)]
    no_keep_alive: bool,
    /// Number of packets per head.
    #[arg(long, default_value_t = 1)]
    split: usize,
    /// Requests sent before responses are read.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File for the record of requests.
    #[arg(long)]
    truth: Option<PathBuf>,
}

/// Maximum requests waiting for a connection.
const UNANSWERED: usize = 1 << 20;

fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').unwrap_or(text);
    Ok(Duration::try_from_secs_f64(number.parse()?)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.target.ip().is_loopback(),
        "the target must be a loopback address"
    );
    ensure!(arguments.rate > 0.0, "the rate must be more than 0");
    ensure!(
        arguments.split > 0 && arguments.pipeline > 0,
        "--split and --pipeline must be at least 1"
    );
    let mix = Mix::parse(&arguments)?;
    let truth = Arc::new(Mutex::new(Truth::default()));
    drive(&arguments, mix, &truth).await;
    let text = truth.lock().expect("no holder panics").json()?;
    match &arguments.truth {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => println!("{text}"),
    }
    Ok(())
}

/// Sends by the clock, independent of responses; then waits briefly for the last ones.
async fn drive(arguments: &Arguments, mut mix: Mix, truth: &Arc<Mutex<Truth>>) {
    let wire = Wire {
        target: arguments.target,
        keep_alive: !arguments.no_keep_alive,
        split: arguments.split,
        pipeline: arguments.pipeline,
    };
    let room = if arguments.closed_loop { 1 } else { UNANSWERED };
    let (sender, receiver) = mpsc::channel::<Plan>(room);
    let queue: Queue = Arc::new(tokio::sync::Mutex::new(receiver));
    let mut workers = Vec::new();
    for _ in 0..arguments.connections {
        let serve = connection::serve(wire, Arc::clone(&queue), Arc::clone(truth));
        workers.push(tokio::spawn(serve));
    }
    let started = Instant::now();
    let mut sent = 0_u64;
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            told.store(true, Ordering::Relaxed);
        }
    });
    while started.elapsed() < arguments.duration && !interrupted.load(Ordering::Relaxed) {
        let due = if arguments.closed_loop {
            Instant::now()
        } else {
            let due = started + Duration::from_secs_f64(sent as f64 / arguments.rate);
            tokio::time::sleep_until(due.into()).await;
            due
        };
        let plan = mix.next(due);
        truth.lock().expect("no holder panics").planned(&plan);
        // The queue is closed only below.
        let _ = sender.send(plan).await;
        sent += 1;
    }
    drop(sender);
    let all = async {
        for worker in workers {
            let _ = worker.await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
}
