//! `heaptide attach PID`: observes one process, shows it live, and reports leaks.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tracing::warn;

use super::{find, observe, report};
use crate::{
    cli::{Attach, ExitCode},
    kernel,
    observe::SourceError,
    outputs::{file, format, http::Server, live::LiveView, metrics::Metrics},
    privileges::{self, More},
    session::Session,
};
use heaptide_judge::report::Report;

/// Interval of the live view.
const DRAW: Duration = Duration::from_secs(1);

/// Runs `heaptide attach`.
pub(super) fn attach(args: &Attach) -> Result<ExitCode> {
    keep_needed(args)?;
    // The target is inspected first, so a wrong pid is not reported as missing capabilities.
    let pid = find::target(args)?;
    heaptide_runtimes::inspect(pid)?;
    report::check(&args.output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    let metrics = Metrics::new();
    let (stop_server, stopped) = watch::channel(false);
    if let Some(address) = args.metrics {
        let server = runtime.block_on(Server::bind(address))?;
        file::tell(&format!("metrics at http://{}/metrics", server.address()));
        runtime.spawn(server.serve(metrics.clone(), stopped));
    }
    let judge = super::judge::options(&args.observe.judge);
    let mut session = session(args)?;
    let recording = match &args.record {
        Some(path) => Some(super::record::record(&mut session, path)?),
        None => None,
    };
    let requests = match &args.requests {
        Some(path) => Some(super::requests::follow(&mut session, path)?),
        None => None,
    };
    // Before this there is nothing to undo, and a signal ends heaptide by default.
    runtime.block_on(async { observe::stop_on_signals(&stop) })?;
    session.attach(pid, judge)?;
    file::tell(&format!(
        "attached to {} (pid {})",
        observe::name(&session, pid),
        pid
    ));
    watch_target(&mut session, pid, args, &stop, &metrics)?;
    session.finish()?;
    let judged = session
        .worst(&session.pids())
        .context("nothing was observed")?;
    let stacks = session.stacks(judged.target.pid);
    let code = report::finish(&judged, &stacks, &args.output)?;
    if let Some(path) = &args.live_sites {
        write_live_sites(&session, path)?;
    }
    // Without a server there is no receiver.
    let _ = stop_server.send(true);
    drop(session);
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(recording) = recording {
        recording.finish()?;
    }
    if let Some(requests) = requests {
        requests.finish()?;
    }
    Ok(code)
}

fn watch_target(
    session: &mut Session,
    observed: u32,
    args: &Attach,
    stop: &AtomicBool,
    metrics: &Metrics,
) -> Result<()> {
    let begun = Instant::now();
    let mut view = LiveView::new(std::io::stdout().is_terminal());
    let mut drawn = begun;
    while !stop.load(Ordering::Relaxed) && args.duration.is_none_or(|most| begun.elapsed() < most) {
        session.step()?;
        if session.pids().iter().all(|pid| session.ended(*pid)) {
            break;
        }
        if drawn.elapsed() >= DRAW {
            drawn = Instant::now();
            session.drop_ended(observed);
            let mut reports: BTreeMap<String, Vec<Report>> = BTreeMap::new();
            for report in session.pids().iter().filter_map(|pid| session.report(*pid)) {
                let name = format::base_name(&report.target.exe).to_owned();
                reports.entry(name).or_default().push(report);
            }
            metrics.publish(reports);
            if let Some(report) = session.worst(&session.pids()) {
                view.draw(&report);
            }
            if view.quit_requested() {
                break;
            }
        }
    }
    view.finish();
    if session.ended(observed) {
        file::tell(&format!("pid {observed} has ended"));
    }
    Ok(())
}

/// Drops capabilities that are needed neither for observing nor for the requested outputs.
fn keep_needed(args: &Attach) -> Result<()> {
    kernel::look_up_events();
    let named = [
        &args.record,
        &args.live_sites,
        &args.requests,
        &args.output.output,
    ];
    let outputs = args.output.files.0.iter().map(|(_, path)| path.as_path());
    let named = named.into_iter().filter_map(|path| path.as_deref());
    let files: Vec<&Path> = named.chain(outputs).collect();
    privileges::keep_needed(&More {
        port: args.metrics.map(|address| address.port()),
        files: &files,
        refused: Some(kernel::wants_admin),
    })
    .context("cannot drop unneeded capabilities")
}

/// A session with kernel programs; without them, if the kernel refuses them and no option needs them.
fn session(args: &Attach) -> Result<Session> {
    let options = observe::source_options(&args.observe)?;
    let target = options.target.clone();
    let needs_programs = !args.observe.mode.automatic()
        || args.requests.is_some()
        || !args.observe.handlers.is_empty();
    match Session::new(options) {
        Err(why @ SourceError::Kernel(_)) if !needs_programs => {
            let session = Session::outside(target, &why);
            for limitation in session.limitations() {
                warn!("{limitation}");
            }
            Ok(session)
        }
        other => Ok(other?),
    }
}

/// Live memory by site of every process, for tests.
fn write_live_sites(session: &Session, path: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for pid in session.pids() {
        if let Some(sites) = session.live_sites(pid) {
            writeln!(lines, "{sites}")?;
        }
    }
    file::write("the live sites", path, &lines)?;
    Ok(())
}
