//! `heaptide run`: the daemon's process: configuration, log, metrics server, signals.

use std::path::Path;
use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    cli::{ExitCode, Run},
    config::{self, Config},
    daemon::{self, DaemonSignals, logging},
    kernel,
    outputs::{
        http::Server,
        metrics::{Metrics, Standing},
    },
    privileges::{self, More},
};
use heaptide_process::ending;

/// Runs it. `log` is the filter of the command line, which overrides the configuration.
pub(super) fn run(args: &Run, log: Option<&str>) -> Result<ExitCode> {
    let config = config::load(&args.config)?;
    logging::begin(config.agent.log_format, log.unwrap_or(&config.agent.log))?;
    raise_open_files();
    keep_needed(&config)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let signals = Arc::new(DaemonSignals::default());
    listen(&runtime, &signals)?;
    let metrics = Metrics::new();
    metrics.set_standing(Standing {
        unhealthy: None,
        idle: Some("nothing is observed yet: heaptide starts".to_owned()),
    });
    // The port is bound before anything is loaded, so that an error costs nothing.
    let server = runtime.block_on(Server::bind(config.agent.metrics))?;
    info!(address = %server.address(), "metrics are served");
    let (stop_server, stopped) = watch::channel(false);
    let shown = metrics.clone();
    let serving = runtime.spawn(server.serve(shown, stopped));
    let done = daemon::run(&args.config, config, &metrics, &signals);
    // The receiver is gone when the server has stopped by itself.
    let _ = stop_server.send(true);
    if let Err(why) = runtime.block_on(serving) {
        debug!("the metrics server failed: {why}");
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    done?;
    Ok(ExitCode::Success)
}

/// Drops capabilities that are needed neither for observing nor for the state file.
fn keep_needed(config: &Config) -> Result<()> {
    kernel::look_up_events();
    let state: Vec<&Path> = config.agent.state.as_deref().into_iter().collect();
    privileges::keep_needed(&More {
        port: Some(config.agent.metrics.port()),
        files: &state,
        refused: Some(kernel::wants_admin),
    })
    .context("cannot drop unneeded capabilities")?;
    for missing in privileges::missing() {
        warn!("{missing}");
    }
    Ok(())
}

fn listen(runtime: &Runtime, signals: &Arc<DaemonSignals>) -> Result<()> {
    let _inside = runtime.enter();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut stream = signal(kind).context("cannot listen for signals")?;
        let signals = Arc::clone(signals);
        runtime.spawn(async move {
            while stream.recv().await.is_some() {
                let wish = if kind == SignalKind::hangup() {
                    &signals.reload
                } else {
                    ending::ask();
                    &signals.stop
                };
                wish.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

/// A probe needs two descriptors, and a process about fifty: the usual 1024 would allow 20 processes.
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid and not above the hard limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        debug!("cannot raise the limit of open files");
    }
}
