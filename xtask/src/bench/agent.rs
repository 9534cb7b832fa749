//! `cargo xtask bench agent`: memory and CPU of heaptide while it observes a leaking service.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::cpu;
use crate::lab::catalog::Catalog;
use crate::lab::{observe, service};

/// Limits set by the project.
const LIMIT_BYTES: u64 = 64 << 20;
const LIMIT_CORE: f64 = 0.05;

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How long to observe.
    #[arg(long = "for", default_value = "60s")]
    duration: String,
    /// heaptide's mode.
    #[arg(long, default_value = "trace")]
    mode: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    crate::build::agent(true)?;
    service::build_load()?;
    let catalog = Catalog::load()?;
    let (axum, variant) = catalog.row("axum", "token-cache")?;
    service::build(axum)?;
    let seconds = observe::seconds(&arguments.duration)?;

    let started = service::start(axum, &variant.name)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let load_path = folder.path().join("load.json");
    let _load = service::load(started.port, arguments.rate, seconds + 10, &load_path, &[])?;
    thread::sleep(Duration::from_secs(2));
    let mut child = observe::heaptide()
        .args([
            "attach",
            &started.process.pid().to_string(),
            "--mode",
            &arguments.mode,
        ])
        .args(["--for", &format!("{seconds}s"), "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start heaptide")?;

    // Read while it lives; the last reading counts, but its maps may be gone by then.
    let mut last = None;
    let mut locked = 0;
    let began = Instant::now();
    while child
        .try_wait()
        .context("cannot wait for heaptide")?
        .is_none()
    {
        if let Some(pid) = cpu::heaptide_below(child.id())
            && let (Ok(memory), Ok(time)) = (cpu::peak_memory(pid), cpu::time(pid))
        {
            last = Some((memory.0, time, began.elapsed()));
            locked = locked.max(memory.1);
        }
        thread::sleep(Duration::from_millis(100));
    }
    let (resident, time, watched) = last.context("heaptide was never seen running")?;
    let core = time.as_secs_f64() / watched.as_secs_f64();
    println!(
        "heaptide attach --mode {}, {} requests/s, {seconds} s",
        arguments.mode, arguments.rate
    );
    println!(
        "peak resident  {:8.1} MiB  (limit {} MiB)",
        mebibytes(resident),
        LIMIT_BYTES >> 20
    );
    println!("locked         {:8.1} MiB", mebibytes(locked));
    println!(
        "CPU            {:8.2} %    of a core, start included (limit {} %)",
        core * 100.0,
        LIMIT_CORE * 100.0
    );
    if watched.as_secs() + 5 < seconds {
        bail!("heaptide ended after {:.0} s", watched.as_secs_f64());
    }
    if resident > LIMIT_BYTES || core > LIMIT_CORE {
        bail!("heaptide is over its limits");
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
