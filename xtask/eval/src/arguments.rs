//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// The horizon of the verdict `no_leak` here: simulated services have little memory.
pub(crate) const LAB_HORIZON: f64 = 3_600.0;

/// Scores the judge and the baselines on a corpus of simulated services with known answers.
#[derive(Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Arguments {
    /// Traces per class.
    #[arg(long, default_value_t = 200)]
    pub(crate) traces: u64,
    /// Only classes whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Without classes whose name contains this.
    #[arg(long)]
    pub(crate) but: Option<String>,
    /// Writes the result of each trace.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Another corpus of the same families.
    #[arg(long, default_value_t = 6)]
    pub(crate) seed: u64,
    /// The families that the judge was not tuned on. The default.
    #[arg(long, conflicts_with = "tuning")]
    pub(crate) held_out: bool,
    /// The families that it was tuned on.
    #[arg(long)]
    pub(crate) tuning: bool,
    /// A line for each wrong trace.
    #[arg(long)]
    pub(crate) faults: bool,
    /// Only the trace of this number.
    #[arg(long)]
    pub(crate) trace: Option<u64>,
    /// Fails if the figures are below the floors of the tests.
    #[arg(long)]
    pub(crate) check: bool,
    /// Checks the bound of `no_leak` instead, on so many services per family and horizon.
    #[arg(long)]
    pub(crate) bound: bool,
    /// Compares growth budgets and times to confirm instead, on so many big caches and leaks.
    #[arg(long)]
    pub(crate) trade_off: bool,
    /// Measures state and CPU of the judge instead.
    #[arg(long)]
    pub(crate) bench: bool,
}
