//! `cargo xtask bench probes`: cost of a malloc/free pair for the target with each method, in one
//! run, alternating, compared with the project's limits.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{self, as_root, cargo, root};

mod memleak;
pub(super) mod running;

use memleak::Memleak;
use running::{Target, Tool};

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The agent; by default built in release mode.
    #[arg(long)]
    heaptide: Option<PathBuf>,
    /// Number of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// A method of observing the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    None,
    Floor,
    TraceWithoutStacks,
    Trace,
    Naive,
    Memleak,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::None,
        Self::Floor,
        Self::TraceWithoutStacks,
        Self::Trace,
        Self::Naive,
        Self::Memleak,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Floor => "one counting probe (the floor)",
            Self::TraceWithoutStacks => "heaptide trace, stacks off",
            Self::Trace => "heaptide trace, stacks on",
            Self::Naive => "naive placement",
            Self::Memleak => "memleak-bpfcc",
        }
    }

    /// Number of pairs that take some tenths of a second.
    fn pairs(self) -> u32 {
        match self {
            Self::None => 10_000_000,
            Self::Floor => 500_000,
            Self::TraceWithoutStacks | Self::Trace => 200_000,
            Self::Naive | Self::Memleak => 40_000,
        }
    }
}

/// Programs needed by the methods.
struct Setting {
    target: PathBuf,
    heaptide: PathBuf,
    memleak: Option<Memleak>,
}

/// Results of a method: ns per pair and per mixed operation, one of each per round.
#[derive(Default)]
struct Measured {
    pairs: Vec<f64>,
    mixed: Vec<f64>,
}

/// Measures, prints, and fails if a limit is exceeded.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let heaptide = agent(arguments.heaptide.as_deref())?;
    if !process::is_root() {
        // xtask itself runs as root: signals to single tools under sudo would not arrive.
        let mut again = as_root(env::current_exe().context("the path of xtask")?);
        again.args([
            "bench",
            "probes",
            "--rounds",
            &arguments.rounds.to_string(),
            "--heaptide",
        ]);
        return process::run(again.arg(heaptide));
    }
    ensure!(arguments.rounds > 0, "at least one round");
    let folder = tempfile::tempdir()?;
    let setting = Setting {
        target: compile(folder.path())?,
        heaptide,
        memleak: memleak::find(folder.path())?,
    };
    let ways: Vec<Way> = Way::ALL
        .into_iter()
        .filter(|way| *way != Way::Memleak || setting.memleak.is_some())
        .collect();
    let mut measured: Vec<Measured> = ways.iter().map(|_| Measured::default()).collect();
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for (way, measured) in ways.iter().zip(&mut measured) {
            let (pair, mixed) = measure(&setting, *way).with_context(|| way.name().to_owned())?;
            measured.pairs.push(pair);
            measured.mixed.push(mixed);
        }
    }
    let results: Vec<(Way, Measured)> = ways.into_iter().zip(measured).collect();
    print(&results);
    judge(&results)
}

/// A new target, the tool on it, and both loops.
fn measure(setting: &Setting, way: Way) -> Result<(f64, f64)> {
    let mut target = Target::start(&setting.target)?;
    let _tool = tool(setting, way, target.id())?;
    // Warm-up: caches, unwind rules and first stacks are not part of the steady state.
    target.ask("pairs", way.pairs() / 20)?;
    target.ask("mixed", way.pairs() / 40)?;
    let pair = target.ask("pairs", way.pairs())?;
    let mixed = target.ask("mixed", way.pairs() / 2)?;
    Ok((pair, mixed))
}

/// Starts the observing tool and waits until it is attached.
fn tool(setting: &Setting, way: Way, pid: u32) -> Result<Option<Tool>> {
    let pid = pid.to_string();
    let mut heaptide = Command::new(&setting.heaptide);
    let folder = tempfile::tempdir()?;
    let attach = [
        "attach", &pid, "--mode", "trace", "--for", "600s", "--format", "json",
    ];
    let command = match way {
        Way::None => return Ok(None),
        Way::Floor => heaptide.args(["bench-floor", &pid]),
        Way::Naive => heaptide.args(["bench-naive", &pid]),
        Way::Trace => heaptide.args(attach),
        Way::TraceWithoutStacks => heaptide.args(attach).arg("--no-stacks"),
        Way::Memleak => {
            let mut memleak = setting.memleak.as_ref().context("not installed")?.on(&pid);
            return Tool::start(&mut memleak, "outstanding allocations", folder).map(Some);
        }
    };
    Tool::start(command, "attached", folder).map(Some)
}

/// The agent to measure: the given one, or a new build.
pub(super) fn agent(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path
            .canonicalize()
            .with_context(|| path.display().to_string());
    }
    process::run(cargo().args(["build", "--release", "--package", "heaptide"]))?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/heaptide"))
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("pairs");
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++20", "-O2", "-g", "-o"]).arg(&path);
    process::run(compiler.arg(root().join("lab/bench/pairs.cpp")))?;
    Ok(path)
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        all if all.len() % 2 == 1 => all[middle],
        all => f64::midpoint(all[middle - 1], all[middle]),
    }
}

fn pair(results: &[(Way, Measured)], way: Way) -> Option<f64> {
    let found = results.iter().find(|(measured, _)| *measured == way);
    found.map(|(_, measured)| median(&measured.pairs))
}

fn print(results: &[(Way, Measured)]) {
    let floor = pair(results, Way::Floor).unwrap_or(f64::NAN);
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header([
        "watched by",
        "ns per pair",
        "(least .. most)",
        "x floor",
        "ns per mixed op",
    ]);
    for (way, measured) in results {
        let least = measured.pairs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = measured.pairs.iter().copied().fold(0.0, f64::max);
        let ns = median(&measured.pairs);
        table.add_row([
            way.name().to_owned(),
            format!("{ns:.1}"),
            format!("({least:.1} .. {most:.1})"),
            format!("{:.2}", ns / floor),
            format!("{:.1}", median(&measured.mixed)),
        ]);
    }
    println!("{table}");
}

/// The project's limits, each with its measured value.
fn judge(results: &[(Way, Measured)]) -> Result<()> {
    let mut passed = true;
    let mut limit = |what: &str, value: Option<f64>, good: &dyn Fn(f64) -> bool| match value {
        None => println!("not judged  {what}: one of the two was not measured"),
        Some(value) => {
            // NaN fails.
            let verdict = if good(value) { "holds" } else { "BROKEN" };
            passed &= good(value);
            println!("{verdict:<10}  {what}: {value:.2}");
        }
    };
    let ratio = |way, of| Some(pair(results, way)? / pair(results, of)?);
    let off = Way::TraceWithoutStacks;
    limit(
        "trace, stacks off, at most 4 x the floor",
        ratio(off, Way::Floor),
        &|x| x <= 4.0,
    );
    limit(
        "trace, stacks on, at most 6 x the floor",
        ratio(Way::Trace, Way::Floor),
        &|x| x <= 6.0,
    );
    limit(
        "memleak-bpfcc costs at least 4 x as much as trace with stacks",
        ratio(Way::Memleak, Way::Trace),
        &|x| x >= 4.0,
    );
    if passed {
        Ok(())
    } else {
        bail!("a limit is broken")
    }
}
