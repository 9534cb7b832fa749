//! `cargo xtask bench native`: cost of a malloc/free pair with each allocator for C, C++ and Rust,
//! compared with one counting probe on its malloc, in one run, alternating.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::probes::running::{Target, Tool};
use super::probes::{agent, median};
use crate::process::{self, as_root, root};

/// Limit set by the project: pairs traced without stacks, as a multiple of one counting probe.
const LIMIT: f64 = 4.0;

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

/// The target's allocator.
#[derive(Clone, Copy)]
struct Malloc {
    name: &'static str,
    build: Build,
    preload: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    Shared,
    Static,
    Musl,
}

const MALLOCS: &[Malloc] = &[
    Malloc::new("glibc", Build::Shared, None),
    Malloc::new("glibc, static", Build::Static, None),
    Malloc::new("musl, static", Build::Musl, None),
    Malloc::new("jemalloc", Build::Shared, Some("libjemalloc.so.2")),
    Malloc::new("mimalloc", Build::Shared, Some("libmimalloc.so.2")),
    Malloc::new("tcmalloc", Build::Shared, Some("libtcmalloc_minimal.so.4")),
];

impl Malloc {
    const fn new(name: &'static str, build: Build, preload: Option<&'static str>) -> Self {
        Self {
            name,
            build,
            preload,
        }
    }
}

/// A method of observing.
#[derive(Clone, Copy)]
enum Way {
    None,
    Floor,
    WithoutStacks,
    WithStacks,
}

const WAYS: [Way; 4] = [Way::None, Way::Floor, Way::WithoutStacks, Way::WithStacks];

/// Measures, prints, and fails if a limit is exceeded.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let heaptide = agent(arguments.heaptide.as_deref())?;
    if !process::is_root() {
        let mut again = as_root(env::current_exe().context("the path of xtask")?);
        let rounds = arguments.rounds.to_string();
        again.args(["bench", "native", "--rounds", &rounds, "--heaptide"]);
        return process::run(again.arg(heaptide));
    }
    ensure!(arguments.rounds > 0, "at least one round");
    let folder = tempfile::tempdir()?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header([
        "ns per pair",
        "unwatched",
        "floor",
        "trace, stacks off",
        "x floor",
        "stacks on",
        "x floor",
    ]);
    let mut broken = Vec::new();
    for malloc in MALLOCS {
        let program = compile(malloc.build, folder.path())?;
        let mut measured = WAYS.map(|_| Vec::new());
        for _ in 0..arguments.rounds {
            for (way, measured) in WAYS.iter().zip(&mut measured) {
                let pair = measure(&heaptide, &program, *malloc, *way);
                measured.push(pair.with_context(|| malloc.name)?);
            }
        }
        let [none, floor, off, on] = measured.map(|all| median(&all));
        let ratio = off / floor;
        if ratio.is_nan() || ratio > LIMIT {
            broken.push(format!("{}: {ratio:.2} x the floor", malloc.name));
        }
        let ns = |value: f64| format!("{value:.1}");
        let times = |value: f64| format!("{value:.2}");
        table.add_row([
            malloc.name.to_owned(),
            ns(none),
            ns(floor),
            ns(off),
            times(ratio),
            ns(on),
            times(on / floor),
        ]);
    }
    println!("{table}");
    if broken.is_empty() {
        println!("holds       each at most {LIMIT} x its floor with stacks off");
        return Ok(());
    }
    bail!("over {LIMIT} x the floor: {}", broken.join("; "))
}

/// Runs the loop in a new target with one method; ns per pair.
fn measure(heaptide: &Path, program: &Path, malloc: Malloc, way: Way) -> Result<f64> {
    let mut target = Target::start_with(program, malloc.preload)?;
    let pid = target.id().to_string();
    let mut command = Command::new(heaptide);
    let pairs = match way {
        Way::None => 5_000_000,
        Way::Floor => 300_000,
        Way::WithoutStacks | Way::WithStacks => 150_000,
    };
    match way {
        Way::None => {}
        Way::Floor => {
            command.args(["bench-floor", &pid]);
        }
        Way::WithoutStacks | Way::WithStacks => {
            command.args(["attach", &pid, "--mode", "trace", "--for", "600s"]);
            command.args(["--format", "json"]);
        }
    }
    if matches!(way, Way::WithoutStacks) {
        command.arg("--no-stacks");
    }
    let _tool = match way {
        Way::None => None,
        _ => Some(Tool::start(&mut command, "attached", tempfile::tempdir()?)?),
    };
    // Warm-up: caches, unwind rules and first stacks are not part of the steady state.
    target.ask("pairs", pairs / 20)?;
    target.ask("pairs", pairs)
}

/// g++ with musl's headers and start files in place of glibc's.
const MUSL: &[&str] = &[
    "-fno-exceptions",
    "-fno-rtti",
    "-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs",
    "-isystem/usr/include/c++/12",
    "-isystem/usr/include/x86_64-linux-gnu/c++/12",
    "-isystem/usr/include/x86_64-linux-musl",
    "-D__GLIBC_PREREQ(x,y)=0",
];

fn compile(build: Build, folder: &Path) -> Result<PathBuf> {
    let name = match build {
        Build::Shared => "shared",
        Build::Static => "static",
        Build::Musl => "musl",
    };
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++17", "-O2", "-g", "-o"]).arg(&path);
    if build == Build::Musl {
        compiler.args(MUSL);
    }
    compiler.arg(root().join("lab/bench/pairs.cpp"));
    match build {
        Build::Shared => &mut compiler,
        Build::Static => compiler.arg("-static"),
        Build::Musl => compiler.args(["-static", "-nodefaultlibs", "-lc", "-lgcc"]),
    };
    process::run(&mut compiler)?;
    Ok(path)
}
