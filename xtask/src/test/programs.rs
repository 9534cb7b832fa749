//! The test programs built by cargo: their tests, running them, their results.
//!
//! They are run directly and not by `cargo test`, because some need root and cargo must not build as root.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::failures::Failures;
use crate::process;

/// Prefix of the names of kernel tests.
const KERNEL: &str = "kernel_";
/// The test program whose modules are kernel tests: one program is linked faster than 30. Each module runs as a program
/// of its own, with this name before its name.
const KERNEL_PROGRAM: &str = "kernel";
/// Programs whose pure tests read what the lab has built.
const OF_LAB: &[&str] = &["heaptide_runtimes", "known_versions", "xtask"];
/// Prefix of the names of slow tests.
const SLOW: &str = "slow_";
/// Prefix of the message of a test that could not run: `SKIPPED <test>: <reason>` on standard error.
const SKIPPED: &str = "SKIPPED ";
/// Tells tests to leave out versions of interpreters between the oldest and the newest one.
const EVERY_DAY: &str = "HEAPTIDE_EVERY_DAY";
/// Prefix of libtest's summary.
const RESULT: &str = "test result: ";

/// A compiled test program, or a module of [`KERNEL_PROGRAM`].
#[derive(Clone)]
pub(crate) struct TestProgram {
    pub(crate) name: String,
    package: PathBuf,
    path: PathBuf,
    is_integration: bool,
    tests: Vec<String>,
    /// Its tests may leave out versions of interpreters.
    every_day: bool,
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The selected tests.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Part of their names, or the name of their program.
    pub(crate) filter: Option<&'a str>,
    /// Include slow tests.
    pub(crate) all: bool,
}

/// Builds the test programs of a workspace.
pub(crate) fn build(cargo: &mut Command, every_day: bool) -> Result<Vec<TestProgram>> {
    let mut test = Command::new(cargo.get_program());
    test.arg("test").args(cargo.get_args()).args([
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    if let Some(folder) = cargo.get_current_dir() {
        test.current_dir(folder);
    }
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => test.env(name, value),
            None => test.env_remove(name),
        };
    }
    process::say(&test);
    let messages = process::output(&mut test)?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            continue;
        };
        if let (Some(path), Some(manifest), Some(target), Some(Profile { test: true })) = (
            message.executable,
            message.manifest_path,
            message.target,
            message.profile,
        ) {
            let package = manifest
                .parent()
                .context("a manifest without a folder")?
                .to_path_buf();
            let listed = process::output(
                Command::new(&path)
                    .args(["--list", "--format=terse"])
                    .current_dir(&package),
            )?;
            let program = TestProgram {
                name: target.name,
                is_integration: target.kind.iter().any(|kind| kind == "test"),
                tests: listed
                    .lines()
                    .filter_map(|line| Some(line.strip_suffix(": test")?.to_owned()))
                    .collect(),
                package,
                path,
                every_day,
            };
            programs.extend(program.split());
        }
    }
    Ok(programs)
}

impl TestProgram {
    /// The modules of [`KERNEL_PROGRAM`]; another program stays whole.
    fn split(self) -> Vec<Self> {
        if self.name != KERNEL_PROGRAM || !self.is_integration {
            return vec![self];
        }
        let mut modules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for test in &self.tests {
            let module = test.split("::").next().unwrap_or(test);
            let tests = modules.entry(format!("{KERNEL}{module}")).or_default();
            tests.push(test.clone());
        }
        let modules = modules.into_iter();
        let modules = modules.map(|(name, tests)| Self {
            name,
            tests,
            ..self.clone()
        });
        modules.collect()
    }

    /// Whether its pure tests read what the lab has built.
    pub(crate) fn needs_lab(&self) -> bool {
        OF_LAB.contains(&self.name.as_str())
    }

    /// The kernel tests.
    pub(crate) fn kernel(&self, wanted: &Wanted) -> Vec<String> {
        self.chosen(wanted, true)
    }

    /// The other tests.
    pub(crate) fn pure(&self, wanted: &Wanted) -> Vec<String> {
        self.chosen(wanted, false)
    }

    fn chosen(&self, wanted: &Wanted, kernel: bool) -> Vec<String> {
        self.tests
            .iter()
            .filter(|test| self.needs_kernel(test) == kernel)
            .filter(|test| wanted.has(&self.name, test))
            .cloned()
            .collect()
    }

    fn needs_kernel(&self, test: &str) -> bool {
        let is_kernel = |name: &str| name.starts_with(KERNEL);
        self.is_integration && (is_kernel(&self.name) || is_kernel(function(test)))
    }
}

/// A test's name without its modules.
fn function(test: &str) -> &str {
    test.rsplit("::").next().unwrap_or(test)
}

impl Wanted<'_> {
    /// Whether a test of a program is selected.
    fn has(&self, program: &str, test: &str) -> bool {
        let is_named = |filter: &str| program == filter || test.contains(filter);
        self.filter.is_none_or(is_named) && (self.all || !function(test).starts_with(SLOW))
    }
}

/// The results so far.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Programs with failed tests, and their messages.
    pub(crate) failed: Vec<(String, Vec<String>)>,
    /// `<test>: <reason>`.
    pub(crate) skipped: Vec<String>,
    results: Vec<(String, String)>,
    /// Tests outside of test programs, by kind: passed, failed.
    counted: BTreeMap<String, (u32, u32)>,
}

impl TestProgram {
    /// Runs some of its tests; kernel tests as root and one at a time. `prefix` is printed before each line, to
    /// identify concurrent programs.
    pub(crate) fn run(&self, tests: &[String], kernel: bool, prefix: &str) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if tests.is_empty() {
            return Ok(outcome);
        }
        let mut command = if kernel {
            process::as_root(&self.path)
        } else {
            Command::new(&self.path)
        };
        command
            .current_dir(&self.package)
            .env("CARGO_MANIFEST_DIR", &self.package)
            .envs(self.every_day.then_some((EVERY_DAY, "1")))
            .arg("--nocapture")
            .arg("--exact")
            .args(tests)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if kernel {
            command.arg("--test-threads=1");
        }
        let name = if kernel {
            format!("{} (kernel)", self.name)
        } else {
            self.name.clone()
        };
        eprintln!("     Running {name}");
        let begun = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut failures = Failures::default();
        for line in lines(stdout, stderr) {
            failures.take(&line);
            outcome.take(&name, line, prefix);
        }
        let status = child.wait()?;
        if !status.success() {
            failures.lines.push(format!("it ended with {status}"));
            outcome.failed.push((name.clone(), failures.lines));
        }
        eprintln!("     Ran {name} in {:.0} s", begun.elapsed().as_secs_f64());
        Ok(outcome)
    }
}

impl Outcome {
    /// Adds other results.
    pub(crate) fn extend(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.results.extend(other.results);
        for (kind, (passed, failed)) in other.counted {
            self.add(&kind, passed, failed);
        }
    }

    /// Counts a test outside of a test program; `failure` is the reason if it failed.
    pub(crate) fn count(&mut self, kind: &str, name: &str, failure: Option<String>) {
        let has_passed = failure.is_none();
        self.add(kind, u32::from(has_passed), u32::from(!has_passed));
        if let Some(failure) = failure {
            self.failed.push((name.to_owned(), vec![failure]));
        }
    }

    fn add(&mut self, kind: &str, passed: u32, failed: u32) {
        let sum = self.counted.entry(kind.to_owned()).or_default();
        *sum = (sum.0 + passed, sum.1 + failed);
    }

    /// Echoes a line. Result lines are kept for the end.
    fn take(&mut self, name: &str, line: String, prefix: &str) {
        if line.starts_with(RESULT) {
            self.results.push((name.to_owned(), line));
            return;
        }
        println!("{prefix}{line}");
        // On a terminal libtest's "test NAME ... " may precede it.
        if let Some(skip) = line.strip_prefix(SKIPPED) {
            self.skipped.push(skip.to_owned());
        }
    }

    /// Prints every program's result line, and the skipped tests.
    pub(crate) fn print(&self) {
        println!();
        for (name, result) in &self.results {
            println!("     Running {name}");
            println!("{result}");
        }
        for (kind, (passed, failed)) in &self.counted {
            let word = if *failed == 0 { "ok" } else { "FAILED" };
            println!("     Running {kind}");
            println!("{RESULT}{word}. {passed} passed; {failed} failed; 0 ignored");
        }
        if !self.skipped.is_empty() {
            println!("\nskipped:");
            for skip in &self.skipped {
                println!("  {skip}");
            }
        }
        if !self.failed.is_empty() {
            println!("\nfailed:");
            for (name, lines) in &self.failed {
                println!("  {name}");
                for line in lines {
                    println!("    {line}");
                }
            }
        }
    }
}

/// The lines of both streams in order of arrival.
fn lines(
    stdout: impl Read + Send + 'static,
    stderr: impl Read + Send + 'static,
) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let other = sender.clone();
    thread::spawn(move || forward(stdout, &sender));
    thread::spawn(move || forward(stderr, &other));
    receiver
}

fn forward(stream: impl Read, sender: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // Bytes instead of `lines()`: a test may print invalid UTF-8.
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches('\n')
            .to_owned();
        if sender.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{TestProgram, Wanted};

    #[test]
    fn a_filter_names_a_part_of_a_test_or_a_program() {
        let has = |filter, program, test| {
            let wanted = Wanted {
                filter: Some(filter),
                all: false,
            };
            wanted.has(program, test)
        };
        assert!(has("kernel_requests", "kernel_requests", "bodies"));
        assert!(!has("kernel_requests", "kernel_streams", "bodies"));
        assert!(!has("kernel", "kernel_requests", "bodies"));
        assert!(has("odie", "kernel_requests", "bodies"));
        assert!(!has("cookies", "kernel_requests", "bodies"));
    }

    #[test]
    fn modules_of_the_kernel_program_are_programs() {
        let program = |name: &str| TestProgram {
            name: name.to_owned(),
            package: PathBuf::new(),
            path: PathBuf::new(),
            every_day: true,
            is_integration: true,
            tests: ["go::stacks", "maps::full", "go::heap"]
                .map(str::to_owned)
                .into(),
        };
        let modules: Vec<_> = program("kernel").split();
        let modules: Vec<_> = modules
            .iter()
            .map(|one| (one.name.as_str(), one.tests.len()))
            .collect();
        assert_eq!(modules, [("kernel_go", 2), ("kernel_maps", 1)]);
        assert!(
            program("kernel")
                .split()
                .iter()
                .all(|one| one.needs_kernel("go::heap"))
        );
        assert_eq!(program("replay").split().len(), 1);
    }

    #[test]
    fn slow_tests_are_run_with_all_only() {
        let has = |all, test| Wanted { filter: None, all }.has("kernel_caches", test);
        assert!(!has(false, "slow_ttl_of_minutes"));
        assert!(!has(false, "caches::slow_ttl_of_minutes"));
        assert!(has(true, "slow_ttl_of_minutes"));
        assert!(has(false, "not_slow_at_all"));
    }
}
