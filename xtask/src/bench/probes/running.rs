//! The processes of the benchmark: its target, and the tools.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Timeout for a tool to attach; the verifier and bcc's compiler are slow.
const ATTACH: Duration = Duration::from_secs(60);

/// A child that is killed by its id on drop.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running tool. Killing it is sufficient: the kernel detaches its probes.
pub(in crate::bench) struct Tool {
    _child: Guard,
    _folder: tempfile::TempDir,
}

impl Tool {
    /// Starts a tool, and waits until it has printed `sign` on standard output or error.
    pub(in crate::bench) fn start(
        command: &mut Command,
        sign: &'static str,
        folder: tempfile::TempDir,
    ) -> Result<Self> {
        command.current_dir(folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Guard(command.spawn().with_context(|| format!("{command:?}"))?);
        let output: Option<ChildStdout> = child.0.stdout.take();
        let errors: Option<ChildStderr> = child.0.stderr.take();
        let (to, from) = mpsc::channel();
        let second = to.clone();
        thread::spawn(move || pass_on(output, &to));
        thread::spawn(move || pass_on(errors, &second));
        let mut said = String::new();
        loop {
            match from.recv_timeout(ATTACH) {
                Ok(line) if line.contains(sign) => break,
                Ok(line) => said.extend([line.as_str(), "\n"]),
                Err(_) => bail!("it does not print {sign:?}, only:\n{said}"),
            }
        }
        // Its further output is drained, or it would block on a full pipe.
        thread::spawn(move || while from.recv().is_ok() {});
        Ok(Self {
            _child: child,
            _folder: folder,
        })
    }
}

fn pass_on(pipe: Option<impl std::io::Read>, to: &mpsc::Sender<String>) {
    let Some(pipe) = pipe else { return };
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

/// `lab/bench/pairs.cpp`, running.
pub(in crate::bench) struct Target {
    child: Guard,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    pub(in crate::bench) fn start(path: &Path) -> Result<Self> {
        Self::start_with(path, None)
    }

    /// The same with a library preloaded.
    pub(in crate::bench) fn start_with(path: &Path, preload: Option<&str>) -> Result<Self> {
        let mut command = Command::new(path);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut child = Guard(child);
        let input = child.0.stdin.take().context("its input")?;
        let output = BufReader::new(child.0.stdout.take().context("its output")?);
        let mut target = Self {
            child,
            input,
            output,
        };
        let ready = target.line()?;
        ensure!(ready.starts_with("ready "), "the target prints {ready:?}");
        Ok(target)
    }

    /// Its process id.
    pub(in crate::bench) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Runs a loop in it; ns of its own CPU time per iteration.
    pub(in crate::bench) fn ask(&mut self, what: &str, count: u32) -> Result<f64> {
        writeln!(self.input, "{what} {count}")?;
        let answer: serde_json::Value = serde_json::from_str(&self.line()?)?;
        answer["ns"].as_f64().context("a number of nanoseconds")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.output.read_line(&mut line)? > 0,
            "the target has ended"
        );
        Ok(line)
    }
}
