//! The `heaptide` binary: reads the command line, logs, and runs a subcommand.

use std::{io::IsTerminal as _, process::ExitCode};

use heaptide::cli::{self, Command};
use heaptide::commands;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    return_freed_memory();
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

/// Sets glibc's allocator to map large blocks one by one, and to return free memory at the end of its heaps. By default
/// the first freed large block raises both thresholds, and then the memory of the attach stays resident for good.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two integers, and no other thread runs yet. If it fails, more memory stays resident.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// Blocks of at least so many bytes are mapped one by one. An attach frees several times as much in larger blocks.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 64 << 10;
