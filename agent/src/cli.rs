//! The command line: flags, their help, and the exit codes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::values::{self, Named};
use heaptide_judge::report::Verdict;

mod check;
mod files;
mod observe;

pub use check::Check;
pub use files::FileArgs;
pub use observe::{JudgeArgs, ObserveArgs};

/// Exit codes; those from 64 on are from sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Success; with `--exit-code` also: no finding.
    Success = 0,
    /// `--exit-code` and `check`: a confirmed finding; of a comparison: something is new or has grown.
    Confirmed = 1,
    /// `--exit-code` and `check`: a suspect finding.
    Suspect = 2,
    /// There is no such process, or it ended before it could be observed; `check`: or before the end.
    NoSuchProcess = 3,
    /// `--exit-code` and `check`: the evidence is too thin.
    InsufficientEvidence = 4,
    /// `check`: the load command failed, or could not be started.
    LoadFailed = 5,
    /// The command line or the configuration is wrong.
    Usage = 64,
    /// The kernel lacks a feature, which the message names.
    Unsupported = 69,
    /// Any other error.
    Internal = 70,
    /// Not permitted; the message names the missing capability.
    NotPermitted = 77,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict.exit_code() {
            1 => Self::Confirmed,
            2 => Self::Suspect,
            4 => Self::InsufficientEvidence,
            _ => Self::Success,
        }
    }
}

/// Finds memory leaks of running services: the route and tokens that cause them, and the line of code
/// that keeps the memory.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "heaptide", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 3 no such process, 64 usage, 69 not supported by the kernel, \
         70 internal error, 77 not permitted; with --exit-code, and in check, also 1 confirmed leak \
         (diff: something new or grown), 2 suspected leak, 4 too little evidence; in check also 5 the load \
         command failed."
)]
pub struct Cli {
    /// Log level for standard error (error, warn, info, debug, trace), or a filter per module
    #[arg(long, global = true, env = "HEAPTIDE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Observe a running process and report whether it leaks
    Attach(Attach),
    /// Observe a process during a load test, and exit by policies (for CI pipelines)
    Check(Check),
    /// Judge a recorded capture again
    Replay(Replay),
    /// Compare two reports or captures: what is new, gone, grown or shrunk per request and token
    Diff(Diff),
    /// Run as a daemon with targets from a configuration file
    Run(Run),
    /// List processes with runtime, allocators, memory, and what can be observed in them
    Ps(Ps),
    /// Check the kernel, the capabilities and the cost of a probe on this host
    Doctor(Doctor),
    /// Check a configuration file of the daemon
    CheckConfig(CheckConfig),
    /// Check the configuration of the running daemon, and tell the daemon to read it again
    Reload(Reload),
    /// Write the manual pages and the completions of shells to a folder (for packages)
    #[command(hide = true)]
    Manual(Manual),
    /// Attach one counting probe (for `cargo xtask bench probes`)
    #[command(hide = true)]
    BenchFloor(BenchTarget),
    /// Look up addresses in files received over standard input, a socket (started by heaptide itself)
    #[command(hide = true)]
    SymbolizeHelper,
    /// Allocate and free on demand (for the calibration)
    #[command(hide = true)]
    Pairs,
    /// Wait for a word from `heaptide check`, and become the load command (started by heaptide itself)
    #[command(hide = true)]
    StartLoad(StartLoad),
    /// Attach at function entries (for `cargo xtask bench probes`)
    #[command(hide = true)]
    BenchNaive(BenchTarget),
    /// Search a process's memory repeatedly (for `cargo xtask bench residency`)
    #[command(hide = true)]
    BenchResidency(BenchTarget),
}

/// `heaptide bench-floor`, `bench-naive` and `bench-residency`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct BenchTarget {
    /// Process to probe or search, until it ends
    pub pid: u32,
}

/// `heaptide start-load`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct StartLoad {
    /// Descriptor of the socket to `heaptide check`
    pub gate: i32,
    /// The load command
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `heaptide manual`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Manual {
    /// An existing folder
    pub folder: PathBuf,
}

/// `heaptide attach`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Attach {
    /// Process to observe: its pid, or a name that only one process has
    #[arg(
        value_name = "PID|NAME",
        value_parser = values::process,
        required_unless_present_any = ["unit", "container"],
        conflicts_with_all = ["unit", "container"]
    )]
    pub process: Option<Named>,
    /// The main process of this systemd unit
    #[arg(long, value_name = "UNIT", conflicts_with = "container")]
    pub unit: Option<String>,
    /// The main process of the container with this id, or whose id begins so
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,
    /// How long to observe (60s, 10m); by default until the process ends or you press q or Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub observe: ObserveArgs,
    /// Record all observations for `heaptide replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write live memory by leading user frame, as JSON lines (for tests)
    #[arg(long, hide = true, value_name = "FILE")]
    pub live_sites: Option<PathBuf>,
    /// Write every request, and its live memory at the end, as JSON lines (for tests)
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "record")]
    pub requests: Option<PathBuf>,
    /// Serve /metrics and /healthz while attached; a port alone means loopback
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen_address)]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub output: OutputArgs,
}

/// `heaptide replay`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Replay {
    /// Capture made by `attach --record`
    pub capture: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub judge: JudgeArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub output: OutputArgs,
}

/// `heaptide diff`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Diff {
    /// JSON report (`--format json`) or capture (`--record`) of the first run
    pub before: PathBuf,
    /// The same of the second run
    pub after: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub judge: JudgeArgs,
    /// Format of the comparison
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the comparison to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Exit with 1 if something is new or has grown, 4 if that cannot be told
    #[arg(long)]
    pub exit_code: bool,
}

/// Destination and format of the result.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct OutputArgs {
    /// Format of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the report to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub files: FileArgs,
    /// Exit with 1 for a confirmed leak, 2 for a suspected one, 4 if the evidence is too thin for a verdict
    #[arg(long)]
    pub exit_code: bool,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For humans.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// `heaptide run`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Run {
    /// Configuration file of the daemon
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/heaptide/heaptide.toml"
    )]
    pub config: PathBuf,
}

/// `heaptide ps`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Ps {
    /// Only processes whose name or command line matches this regular expression
    #[arg(value_name = "REGEX", value_parser = values::pattern)]
    pub command: Option<String>,
    /// Only processes of this runtime (cpython, go, tokio, node)
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Explain the position of each probe
    #[arg(short, long)]
    pub verbose: bool,
    /// Format of the list
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `heaptide doctor`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Doctor {
    /// Format of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `heaptide check-config`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CheckConfig {
    /// Configuration file to check
    pub file: PathBuf,
}

/// `heaptide reload`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Reload {
    /// The daemon, if several run
    #[arg(long)]
    pub pid: Option<u32>,
}

/// Parses the command line of another heaptide. Prints nothing.
pub fn understand(args: Vec<String>) -> Result<Command, clap::Error> {
    Cli::try_parse_from(args).map(|cli| cli.command)
}

/// Parses a command line. For errors, `--help` and `--version` the message is printed and the exit
/// code returned.
pub fn parse<I, T>(args: I) -> Result<Cli, ExitCode>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    Cli::try_parse_from(args).map_err(|error| {
        // If this fails too, there is no other way to report it.
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::Usage
        } else {
            ExitCode::Success
        }
    })
}

/// The clap definition, for help pages and tests.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
