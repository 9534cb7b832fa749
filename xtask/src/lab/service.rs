//! A lab service and the load generator as running processes, which end with their owner.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::catalog::{Service, Variant};
use super::{go, http, python};
use crate::process::{self, lab_cargo, root};
use crate::toolchain::{self, Toolchain};

/// Placeholder in build commands for the toolchain of the eBPF programs.
const TOOLCHAIN: &str = "{toolchain}";
const START_TIME: Duration = Duration::from_secs(20);
/// Time for workers to end after their master was asked to.
const END_TIME: Duration = Duration::from_secs(3);

/// A build of the lab that only slow tests start, with the same cargo arguments.
const HTTP2: &[&str] = &["--features", "lab-axum/http2", "--bin", "lab-axum-http2"];

/// Builds those of these services that can be built here, the load generator, and programs of tests; with `all` also those
/// of slow tests.
pub(crate) fn build_for_tests(services: &[&Service], all: bool) -> Result<()> {
    // Also fetches sources needed by some builds only: a test uses an allocator's.
    process::run(lab_cargo().args(["fetch", "--locked"]))?;
    build_load()?;
    if all {
        process::run(
            lab_cargo()
                .args(["build", "--release", "--workspace"])
                .args(HTTP2),
        )?;
    }
    let mut built = HashSet::new();
    for service in services {
        if !built.insert((&service.folder, &service.build, &service.python)) {
            continue;
        }
        match missing(service) {
            Some(reason) => eprintln!("lab: {} is not built: {reason}", service.name),
            None => build(service)?,
        }
    }
    Ok(())
}

/// Why a service cannot run here; `None` if it can.
pub(crate) fn missing(service: &Service) -> Option<String> {
    let python = service.python.as_deref();
    let go = service.go.as_deref();
    python
        .and_then(python::missing_interpreter)
        .or_else(|| go.and_then(go::missing))
        .or_else(|| {
            let mut needs = service.needs.iter();
            let absent = needs.find(|program| process::on_path(program).is_none())?;
            Some(format!("{absent} is not installed"))
        })
}

/// Builds the load generator.
pub(crate) fn build_load() -> Result<()> {
    // The whole workspace, because the set of packages determines their dependencies' features, and so whether they
    // are built again.
    process::run(lab_cargo().args(["build", "--release", "--workspace"]))
}

/// Builds a service.
pub(crate) fn build(service: &Service) -> Result<()> {
    if let Some(python) = &service.python {
        python::prepare(python)?;
    }
    let Some((program, arguments)) = service.build.split_first() else {
        return Ok(());
    };
    let mut command = if program == "cargo" {
        process::cargo()
    } else {
        Command::new(program)
    };
    for argument in arguments {
        if argument == TOOLCHAIN {
            let toolchain = Toolchain::find().context(toolchain::MISSING)?;
            command.arg(toolchain.name);
        } else {
            command.arg(argument);
        }
    }
    command.env_remove(process::WRAPPER);
    process::run(command.current_dir(folder(service)))
}

/// Its folder.
pub(crate) fn folder(service: &Service) -> PathBuf {
    root().join("lab").join(&service.folder)
}

/// A running program, ended on drop.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
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
        let workers = below(self.pid());
        if self.is_alive() {
            // A master ends its workers if it is asked to end.
            ask_to_end(self.pid());
            let began = Instant::now();
            while self.is_alive() && began.elapsed() < END_TIME {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for worker in workers {
            ask_to_end(worker);
        }
    }
}

fn ask_to_end(pid: u32) {
    // SAFETY: kill accesses no memory of this process; an ended process is no error here.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
}

/// A process's children and theirs.
fn below(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let mut found = Vec::new();
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            found.push(child);
            found.extend(below(child));
        }
    }
    found
}

/// A running service and its port.
pub(crate) struct Started {
    pub(crate) process: Running,
    pub(crate) port: u16,
}

/// Starts a variant and waits until it answers.
pub(crate) fn start(service: &Service, variant: &str) -> Result<Started> {
    let port = http::free_port()?;
    let environment = service.python.as_deref().map(python::environment);
    let fill = |word: &String| {
        let word = word
            .replace("{port}", &port.to_string())
            .replace("{variant}", variant);
        match &environment {
            Some(environment) => word.replace("{venv}", &environment.to_string_lossy()),
            None => word,
        }
    };
    let mut words = service.run.iter().map(fill);
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
        .envs(service.env.iter().map(|(name, value)| (name, fill(value))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut process = Running { child };
    let began = Instant::now();
    while http::get(port, "/health").is_err() {
        if !process.is_alive() {
            bail!("{} {variant} ended at start", service.name);
        }
        if began.elapsed() > START_TIME {
            bail!("{} {variant} does not answer on port {port}", service.name);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Started { process, port })
}

/// Additional arguments of the load generator.
pub(crate) fn load_words(service: &Service, variant: &Variant) -> Vec<String> {
    [service.load.as_slice(), variant.load.as_slice()].concat()
}

/// Starts the load generator, which writes its counts at its end.
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

/// Resident bytes of a process or of its largest worker.
pub(crate) fn rss(pid: u32) -> Result<u64> {
    let workers = below(pid).into_iter().filter_map(|pid| resident(pid).ok());
    Ok(workers.fold(resident(pid)?, u64::max))
}

fn resident(pid: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))
        .with_context(|| format!("process {pid} is gone"))?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .context("/proc/PID/statm has no resident pages")?;
    Ok(pages * 4096)
}
