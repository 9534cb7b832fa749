//! A lab service and the load generator as running processes, ended with their owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::catalog::{Catalog, Service};
use super::http;
use crate::process::{self, lab_cargo, root};

const START_TIME: Duration = Duration::from_secs(20);

/// Builds every service and the load generator.
pub(crate) fn build_all() -> Result<()> {
    build_load()?;
    Catalog::load()?.services.iter().try_for_each(build)
}

/// Builds the load generator.
pub(crate) fn build_load() -> Result<()> {
    // The whole workspace and not one package: which packages are built together decides their
    // dependencies' features, and so whether they are built again.
    process::run(lab_cargo().args(["build", "--release", "--workspace"]))
}

/// Builds a service.
pub(crate) fn build(service: &Service) -> Result<()> {
    let (program, arguments) = service
        .build
        .split_first()
        .context("an empty build command")?;
    let mut command = if program == "cargo" {
        process::cargo()
    } else {
        Command::new(program)
    };
    process::run(command.args(arguments).current_dir(folder(service)))
}

fn folder(service: &Service) -> PathBuf {
    root().join("lab").join(&service.folder)
}

/// A started program that is ended when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its own end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait")?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that answers on a port of its own.
pub(crate) struct Started {
    pub(crate) process: Running,
    pub(crate) port: u16,
}

/// Starts a variant and waits until it answers.
pub(crate) fn start(service: &Service, variant: &str) -> Result<Started> {
    let port = http::free_port()?;
    let mut words = service.run.iter().map(|word| {
        word.replace("{port}", &port.to_string())
            .replace("{variant}", variant)
    });
    let program = words.next().context("an empty run command")?;
    let folder = folder(service);
    // `current_dir` does not apply to a relative program reliably.
    let program = if program.contains('/') {
        folder.join(program)
    } else {
        program.into()
    };
    let child = Command::new(&program)
        .args(words)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut process = Running { child };
    let began = Instant::now();
    while http::get(port, "/health").is_err() {
        if !process.is_alive() {
            bail!("{} {variant} ended at its start", service.name);
        }
        if began.elapsed() > START_TIME {
            bail!("{} {variant} does not answer on port {port}", service.name);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Started { process, port })
}

/// Starts the load generator; it writes its truth at its end.
pub(crate) fn load(
    port: u16,
    rate: u32,
    seconds: u64,
    truth: &Path,
    more: &[String],
) -> Result<Running> {
    let child = Command::new(root().join("lab/target/release/lab-load"))
        .args(["--target", &format!("127.0.0.1:{port}")])
        .args(["--rate", &rate.to_string(), "--for", &seconds.to_string()])
        .arg("--truth")
        .arg(truth)
        .args(more)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the load generator")?;
    Ok(Running { child })
}

/// Resident bytes of a process.
pub(crate) fn rss(pid: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))
        .with_context(|| format!("process {pid} is gone"))?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .context("/proc/PID/statm has no resident pages")?;
    Ok(pages * 4096)
}
