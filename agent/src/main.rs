//! The `heaptide` binary: reads the command line, logs, and runs a subcommand.

use std::{io::IsTerminal as _, process::ExitCode};

use heaptide::cli::{self, Command};
use heaptide::commands;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    // The daemon's configuration sets up its log.
    if !matches!(cli.command, Command::Run(_)) {
        let filter = cli
            .log
            .clone()
            .unwrap_or_else(|| "warn,heaptide::observe=info".to_owned());
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .log_internal_errors(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(EnvFilter::new(filter))
            .init();
    }
    commands::execute(cli)
}
