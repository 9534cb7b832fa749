//! `cargo xtask lint`: formatting, house rules, order of imports, licences and sources of packages,
//! clippy, Prometheus rules, shell scripts.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::at_once::at_once;
use crate::process::{self, cargo, command, lab_cargo, on_path, root, succeeds};
use crate::toolchain::{self, Toolchain};

mod order;
mod tidy;

/// Checks at the same time: the eBPF programs are compiled on one processor.
const CONCURRENT: usize = 2;

/// Name and function of a check.
type Check = (&'static str, fn() -> Result<()>);

/// The longest comes first.
const CHECKS: &[Check] = &[
    ("eBPF programs", ebpf),
    ("formatting", formatting),
    ("house rules", tidy::check),
    ("order of imports", order::check),
    ("packages", packages),
    ("clippy", clippy),
    ("Prometheus rules", prometheus),
    ("shell scripts", shell),
];

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only checks whose names begin with one of these; by default all.
    only: Vec<String>,
}

/// Runs the selected checks, and reports which failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let only = &arguments.only;
    let begins = |wanted: &String| {
        CHECKS
            .iter()
            .any(|(name, _)| name.starts_with(wanted.as_str()))
    };
    if let Some(unknown) = only.iter().find(|wanted| !begins(wanted)) {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        bail!(
            "no check is called `{unknown}`; there are: {}",
            names.join(", ")
        );
    }
    let is_selected =
        |name: &str| only.is_empty() || only.iter().any(|wanted| name.starts_with(wanted.as_str()));
    let selected: Vec<&Check> = CHECKS.iter().filter(|one| is_selected(one.0)).collect();
    let results = at_once(&selected, CONCURRENT, |(name, check)| {
        let result = check();
        if let Err(error) = &result {
            eprintln!("{name}: {error:#}");
        }
        (*name, result.is_err())
    });
    let failed: Vec<&str> = results
        .into_iter()
        .filter_map(|(name, has_failed)| has_failed.then_some(name))
        .collect();
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

/// Licences and sources of the dependencies of both workspaces, by deny.toml.
fn packages() -> Result<()> {
    if !succeeds(cargo().args(["deny", "--version"])) {
        bail!("cargo-deny is missing: run `cargo xtask setup`");
    }
    let deny = |manifest: &str| {
        let checked = ["deny", "--locked", "--workspace", "--config", "deny.toml"];
        process::run(
            cargo()
                .args(checked)
                .args(["--manifest-path", manifest])
                .args(["check", "licenses", "bans", "sources"]),
        )
    };
    let ours = deny("Cargo.toml");
    deny("lab/Cargo.toml").and(ours)
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
    let ours = if process::is_linting() {
        // Checking all first would compile it twice.
        eprintln!("clippy: it is the compiler of the tests that follow");
        Ok(())
    } else {
        process::run(cargo().args(clippy))
    };
    // With the profile of its tests: they use the same build scripts, which compile C libraries.
    let lab = [clippy[0], "--release"]
        .into_iter()
        .chain(clippy[1..].iter().copied());
    process::run(lab_cargo().args(lab)).and(ours)
}

/// clippy for the eBPF programs if their toolchain has it, otherwise a build without warnings.
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
    // Denies warnings of our own packages only; unlike RUSTFLAGS it does not rebuild dependencies.
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

/// shellcheck over shell files.
fn shell() -> Result<()> {
    let scripts = tidy::files(&["*.sh", ".ci/run"])?;
    if scripts.is_empty() {
        return Ok(());
    }
    if on_path("shellcheck").is_none() {
        bail!("shellcheck is missing: run `cargo xtask setup`");
    }
    process::run(command("shellcheck").args(scripts))
}
