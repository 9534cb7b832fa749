//! `cargo xtask lint`: formatting, clippy for all parts, house rules, licences, Prometheus rules.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo, command, lab_cargo, on_path, root, succeeds};
use crate::toolchain::{self, Toolchain};

mod licences;
mod tidy;

/// A check, and its name.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("formatting", formatting),
    ("house rules", tidy::check),
    ("licences", licences::check),
    ("clippy", clippy),
    ("the eBPF half", ebpf),
    ("Prometheus rules", prometheus),
    ("shell scripts", shell),
];

/// Runs every check, and then says which failed.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check() {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("lint found something in {}", failed.join(", "));
    }
    eprintln!("lint: clean");
    Ok(())
}

fn formatting() -> Result<()> {
    let check = ["fmt", "--all", "--check"];
    let ours = process::run(cargo().args(check));
    process::run(lab_cargo().args(check)).and(ours)
}

fn clippy() -> Result<()> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let ours = process::run(cargo().args(clippy));
    process::run(lab_cargo().args(clippy)).and(ours)
}

/// clippy for the eBPF half where its toolchain has it, else its build without warnings.
fn ebpf() -> Result<()> {
    let found = Toolchain::find().context(toolchain::MISSING)?;
    let has_clippy =
        succeeds(command("rustup").args(["run", &found.name, "cargo", "clippy", "--version"]));
    let target = root().join("target/ebpf");
    let mut cargo = found.cargo(
        &root(),
        &target,
        if has_clippy { "clippy" } else { "build" },
    );
    // Denies warnings of our own packages only, and unlike RUSTFLAGS rebuilds nothing else.
    cargo.args(["-Z", "warnings", "--config", "build.warnings='deny'"]);
    process::run(&mut cargo)
}

/// The Prometheus rule files, or their tests.
pub(crate) fn rule_files(tests: bool) -> Result<Vec<PathBuf>> {
    let folder = root().join("dashboards/rules");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in folder.read_dir().context("cannot list dashboards/rules")? {
        let path = entry.context("cannot list dashboards/rules")?.path();
        let is_rules = path.extension().is_some_and(|extension| extension == "yml");
        let is_test = path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().ends_with(".test"));
        if is_rules && is_test == tests {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn prometheus() -> Result<()> {
    let rules = rule_files(false)?;
    if rules.is_empty() {
        return Ok(());
    }
    if on_path("promtool").is_none() {
        bail!("promtool is missing: run `cargo xtask setup`");
    }
    process::run(command("promtool").args(["check", "rules"]).args(rules))
}

/// shellcheck over shell files, where it is installed.
fn shell() -> Result<()> {
    let scripts = tidy::files(&["*.sh", ".ci/run"])?;
    if scripts.is_empty() || on_path("shellcheck").is_none() {
        return Ok(());
    }
    process::run(command("shellcheck").args(scripts))
}
