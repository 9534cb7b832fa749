//! Shared by the commands that observe one process: options, signals, its name.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use regex::Regex;

use crate::{
    cli::ObserveArgs,
    observe::{SourceOptions, TargetOptions},
    outputs::format::printable,
    session::Session,
    settings,
};
use heaptide_process::ending;

/// Maximum characters of a path in a message.
const LONGEST_PATH: usize = 4096;

/// Source options from the flags.
pub(super) fn source_options(args: &ObserveArgs) -> Result<SourceOptions> {
    let handlers = args
        .handlers
        .iter()
        .map(|pattern| Regex::new(pattern).with_context(|| format!("--handler {pattern}")))
        .collect::<Result<Vec<_>>>()?;
    Ok(SourceOptions {
        settings: settings::settings(settings::CAPACITY)?,
        target: TargetOptions {
            credential: settings::pattern(&args.credential)?,
            allocations: args.mode.allocations(),
            automatic: args.mode.automatic(),
            at_once: true,
            budget: args.mode.budget(args.overhead),
            handlers,
            memory_limit: args.judge.memory_limit,
            follow: true,
        },
        stacks: !args.no_stacks,
        residency: !args.no_residency,
        enable_go_profile: args.go_enable_memprofile,
    })
}

/// SIGINT and SIGTERM end the observation; the report is still written.
pub(super) fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                ending::ask();
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

/// The executable of an observed process.
pub(super) fn name(session: &Session, pid: u32) -> String {
    session.report(pid).map_or_else(String::new, |report| {
        printable(&report.target.exe, LONGEST_PATH).into_owned()
    })
}
