//! The flags of `heaptide check`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use super::{files::FileArgs, observe::ObserveArgs};
use crate::values::{self, Named, limits};

/// `heaptide check`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    group = clap::ArgGroup::new("until").required(true).args(["duration", "load"]),
    override_usage = "heaptide check [OPTIONS] <PID|NAME> --for <DURATION>\n       \
         heaptide check [OPTIONS] <PID|NAME> -- <COMMAND>...",
    after_help = "Without a policy (--max-..., --baseline) the policy is: no leak and no suspicion. A policy is passed only if the \
         evidence shows that the service keeps to it (95 %), and failed only if it shows that it does not.\n\n\
         Exit codes: 0 all passed, 1 failed by a confirmed leak, 2 failed by a suspected one, 3 the process ended, \
         4 not decided: the message says how much longer to observe, 5 the load command failed; others as in \
         `heaptide --help`."
)]
pub struct Check {
    /// Process to observe: its pid, or a name that only one process has
    #[arg(value_name = "PID|NAME", value_parser = values::process)]
    pub process: Named,
    /// How long to observe (60s, 10m)
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration)]
    pub duration: Option<Duration>,
    /// Load test to run while the process is observed, until it ends
    #[arg(last = true, value_name = "COMMAND")]
    pub load: Vec<OsString>,
    /// Growth of the service, per s, min, h or d
    #[arg(long, value_name = "BYTES/TIME", value_parser = limits::growth, help_heading = "Policies")]
    pub max_growth: Option<f64>,
    /// Bytes that a request keeps after it has ended, on average, by route
    #[arg(long, value_name = "BYTES", value_parser = limits::bytes, help_heading = "Policies")]
    pub max_kept_per_request: Option<f64>,
    /// Bytes that a request with a new token keeps after it has ended, on average, by route
    #[arg(long, value_name = "BYTES", value_parser = limits::bytes, help_heading = "Policies")]
    pub max_kept_per_token: Option<f64>,
    /// Nothing may be new or have grown since this report (`--report` of an earlier check) or capture
    #[arg(long, value_name = "FILE", help_heading = "Policies")]
    pub baseline: Option<PathBuf>,
    /// Judge what requests keep only on routes that match this regular expression
    #[arg(long, value_name = "REGEX", value_parser = values::pattern, help_heading = "Policies")]
    pub route: Option<String>,
    /// Write the results as XML (`JUnit`)
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub junit: Option<PathBuf>,
    /// Write the results as Markdown, for the summary of a CI system
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub markdown: Option<PathBuf>,
    /// Write the whole report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub files: FileArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a group of flags, documented there")]
    pub observe: ObserveArgs,
}
