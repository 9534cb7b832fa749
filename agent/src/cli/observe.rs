//! The flags of all commands that observe a process, and of the judge.

use std::time::Duration;

use clap::Args;

use crate::values::{self, Credential, Mode};

/// How a process is observed.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ObserveArgs {
    /// How allocations are traced
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// CPU time that probes may cost the target, in all modes but trace
    #[arg(long, value_name = "PERCENT", default_value = "3%", value_parser = values::percent)]
    pub overhead: f64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub judge: JudgeArgs,
    /// Function of the target that serves one request: a regular expression for demangled names;
    /// repeatable
    #[arg(long = "handler", value_name = "SYMBOL", value_parser = values::pattern)]
    pub handlers: Vec<String>,
    /// What is the token of a request: bearer, scheme:NAME, header:NAME or cookie:NAME
    #[arg(long, default_value = "bearer", value_name = "WHICH")]
    pub credential: Credential,
    /// Do not record call stacks: cheaper, but no lines of code
    #[arg(long)]
    pub no_stacks: bool,
    /// Do not search the process's memory for tokens of finished requests
    #[arg(long)]
    pub no_residency: bool,
    /// Enable the heap profile of a Go program that has it disabled, until heaptide ends, by writing
    /// one variable in its memory; this makes lines of code known
    #[arg(long)]
    pub go_enable_memprofile: bool,
}

/// Settings of the judge.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct JudgeArgs {
    /// Memory limit of each process, if lower than those of cgroup, rlimit and host (512MiB)
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub memory_limit: Option<u64>,
    /// Intended entries of a cache in the target: a smaller one is never confirmed as a leak
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..))]
    pub expect_cache: Option<u64>,
    /// How long memory must last at the largest growth that could have been missed, for `no_leak`
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = values::duration)]
    pub horizon: Duration,
}
