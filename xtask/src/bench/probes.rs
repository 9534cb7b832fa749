//! `cargo xtask bench probes`: what a pair of malloc and free costs the target under each way of
//! watching it, measured in one run, alternating, against the limits the project has set itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{self, as_root, cargo, on_path, root};

/// Until a tool is in place; the verifier and bcc's compiler take their time.
const ATTACH: Duration = Duration::from_secs(60);

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The agent; built in release mode when not given.
    #[arg(long)]
    heaptide: Option<PathBuf>,
    /// Times that each way of watching has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// A way of watching the target.
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

    /// Pairs that take some tenths of a second.
    fn pairs(self) -> u32 {
        match self {
            Self::None => 10_000_000,
            Self::Floor => 500_000,
            Self::TraceWithoutStacks | Self::Trace => 200_000,
            Self::Naive | Self::Memleak => 40_000,
        }
    }
}

/// What the ways need.
struct Setting {
    target: PathBuf,
    heaptide: PathBuf,
    /// bcc's script and the headers it compiles against, when it is installed.
    memleak: Option<(PathBuf, Option<PathBuf>)>,
}

/// What was measured of a way: ns per pair and per mixed operation, one of each per round.
#[derive(Default)]
struct Measured {
    pairs: Vec<f64>,
    mixed: Vec<f64>,
}

/// Measures, prints, and fails when a limit is passed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let heaptide = agent(arguments)?;
    if !process::is_root() {
        // As a whole: signals to single tools under sudo would not arrive.
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
        memleak: memleak(folder.path())?,
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

/// A target of its own, the tool on it, and both loops.
fn measure(setting: &Setting, way: Way) -> Result<(f64, f64)> {
    let mut target = Target::start(&setting.target)?;
    let _tool = tool(setting, way, target.child.0.id())?;
    // Caches, unwind rules and first stacks are no part of the steady state.
    target.ask("pairs", way.pairs() / 20)?;
    target.ask("mixed", way.pairs() / 40)?;
    let pair = target.ask("pairs", way.pairs())?;
    let mixed = target.ask("mixed", way.pairs() / 2)?;
    Ok((pair, mixed))
}

/// Starts what watches, and waits until it does.
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
            let (script, headers) = setting.memleak.as_ref().context("not installed")?;
            let mut memleak = Command::new(script);
            // Without this Python keeps what it prints to itself. The first list is printed after
            // two seconds: then the probes are in place.
            memleak.args(["-p", &pid, "2"]).env("PYTHONUNBUFFERED", "1");
            if let Some(headers) = headers {
                memleak.env("BCC_KERNEL_SOURCE", headers);
            }
            return Tool::start(&mut memleak, "outstanding allocations", folder).map(Some);
        }
    };
    Tool::start(command, "attached", folder).map(Some)
}

/// A child that ends with us, by its id.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running tool. Killing it is enough: the kernel takes its probes off.
struct Tool {
    _child: Guard,
    _folder: tempfile::TempDir,
}

impl Tool {
    /// Starts a tool, and waits until it has printed `sign` on either of its outputs.
    fn start(command: &mut Command, sign: &'static str, folder: tempfile::TempDir) -> Result<Self> {
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
                Err(_) => bail!("it does not say {sign:?}, only:\n{said}"),
            }
        }
        // What it goes on to print is read and dropped, or it would stop at a full pipe.
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
struct Target {
    child: Guard,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    fn start(path: &Path) -> Result<Self> {
        let mut command = Command::new(path);
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
        ensure!(ready.starts_with("ready "), "the target says {ready:?}");
        Ok(target)
    }

    /// Has it run a loop; ns of its own CPU time per turn.
    fn ask(&mut self, what: &str, count: u32) -> Result<f64> {
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

fn agent(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(path) = &arguments.heaptide {
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

/// Debian's memleak and the kernel headers it needs, `None` when it is not installed.
fn memleak(folder: &Path) -> Result<Option<(PathBuf, Option<PathBuf>)>> {
    let Some(script) = on_path("memleak-bpfcc") else {
        eprintln!(
            "memleak-bpfcc is not installed (apt-get install bpfcc-tools linux-headers-amd64)"
        );
        return Ok(None);
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let own = Path::new("/lib/modules").join(release.trim()).join("build");
    if env::var_os("BCC_KERNEL_SOURCE").is_some() || own.exists() {
        return Ok(Some((script, None)));
    }
    let Some((common, flavour)) = headers()? else {
        eprintln!("memleak-bpfcc has no kernel headers (apt-get install linux-headers-amd64)");
        return Ok(None);
    };
    // Debian cuts the headers into two packages, and bcc takes one folder.
    let merged = folder.join("headers");
    fs::create_dir(&merged)?;
    for part in [common, flavour] {
        process::run(
            Command::new("cp")
                .arg("-a")
                .arg(part.join("."))
                .arg(&merged),
        )?;
    }
    Ok(Some((script, Some(merged))))
}

/// The newest pair of `linux-headers-VERSION-common` and `-FLAVOUR`.
fn headers() -> Result<Option<(PathBuf, PathBuf)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/usr/src").context("/usr/src")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for common in names.iter().rev().filter(|name| name.ends_with("-common")) {
        let version = common.trim_end_matches("common");
        let flavour = names
            .iter()
            .find(|name| name.starts_with(version) && *name != common);
        if let Some(flavour) = flavour {
            let path = |name: &str| Path::new("/usr/src").join(name);
            return Ok(Some((path(common), path(flavour))));
        }
    }
    Ok(None)
}

fn median(values: &[f64]) -> f64 {
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

/// The limits of the project, each said with its measured value.
fn judge(results: &[(Way, Measured)]) -> Result<()> {
    let mut passed = true;
    let mut limit = |what: &str, value: Option<f64>, good: &dyn Fn(f64) -> bool| match value {
        None => println!("not judged  {what}: one of the two was not measured"),
        Some(value) => {
            // A NaN is no good value.
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
