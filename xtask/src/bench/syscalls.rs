//! `cargo xtask bench syscalls`: cost of a system call of an unobserved process while heaptide observes another
//! one.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::request_cost::{median, while_attached};

/// heaptide's start.
const SETTLE: Duration = Duration::from_secs(4);
/// Calls of one round.
const CALLS: u32 = 2_000_000;

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Pairs of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    let mut other = Command::new("sleep")
        .arg("3600")
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start sleep")?;
    let measured = measure(arguments, other.id());
    other.kill().context("cannot end sleep")?;
    other.wait().context("cannot wait for sleep")?;
    measured
}

fn measure(arguments: &Arguments, other: u32) -> Result<()> {
    println!(
        "{:>6} {:>14} {:>14} {:>10}",
        "round", "without, ns", "with, ns", "added"
    );
    let (mut without, mut with, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=arguments.rounds {
        let plain = per_call()?;
        let watched = while_attached(other, "watch", &[], SETTLE, SETTLE + SETTLE, per_call)?;
        println!(
            "{number:>6} {plain:>14.0} {watched:>14.0} {:>10.0}",
            watched - plain
        );
        without.push(plain);
        with.push(watched);
        added.push(watched - plain);
    }
    println!(
        "median {:>13.0} {:>14.0} {:>10.0}  ns per read of one byte of /dev/zero",
        median(without),
        median(with),
        median(added)
    );
    Ok(())
}

/// Nanoseconds of one `read`.
fn per_call() -> Result<f64> {
    let mut zeros = File::open("/dev/zero").context("cannot open /dev/zero")?;
    let mut byte = [0];
    let began = Instant::now();
    for _ in 0..CALLS {
        zeros
            .read_exact(&mut byte)
            .context("cannot read /dev/zero")?;
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(CALLS))
}
