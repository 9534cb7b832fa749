//! The daemon: finds the processes of its configuration, observes them, and publishes reports as
//! metrics and log lines.

mod backoff;
pub mod logging;
mod observer;
mod reload;
pub mod scan;
pub mod select;
mod standing;
mod state;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, info};

pub use observer::{DaemonError, Observer};

use crate::config::{self, Config};
use crate::outputs::metrics::Metrics;

/// Duration of a step when nothing is observed.
const IDLE: Duration = Duration::from_millis(50);

/// Requests to the daemon, set by signal handlers.
#[derive(Debug, Default)]
pub struct DaemonSignals {
    /// End (SIGTERM, SIGINT).
    pub stop: AtomicBool,
    /// Read the configuration again (SIGHUP).
    pub reload: AtomicBool,
}

/// Runs until `signals.stop`. Only the first load of the kernel programs may fail. Later errors are
/// logged, counted and retried.
pub fn run(
    path: &Path,
    config: Config,
    metrics: &Metrics,
    signals: &DaemonSignals,
) -> Result<(), DaemonError> {
    metrics.loaded(true);
    let mut daemon = Daemon {
        metrics: metrics.clone(),
        path: path.to_owned(),
        observer: Observer::new(config, metrics.clone()),
    };
    daemon.observer.load()?;
    info!(
        targets = daemon.observer.config().targets.len(),
        config = %path.display(),
        "heaptide is running"
    );
    daemon.turns(signals);
    info!("heaptide stops");
    Ok(())
}

struct Daemon {
    path: PathBuf,
    metrics: Metrics,
    observer: Observer,
}

impl Daemon {
    fn turns(&mut self, signals: &DaemonSignals) {
        let mut scan_due = Instant::now();
        let mut report_due = scan_due + self.observer.config().agent.report_interval;
        while !signals.stop.load(Ordering::Relaxed) {
            if signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
                scan_due = Instant::now();
            }
            let now = Instant::now();
            if now >= scan_due {
                self.observer.scan();
                scan_due = Instant::now() + self.observer.config().agent.scan_interval;
            }
            if !self.observer.step() {
                std::thread::sleep(IDLE);
            }
            if now >= report_due {
                self.observer.report();
                report_due = now + self.observer.config().agent.report_interval;
            }
        }
    }

    fn reload(&mut self) {
        match config::load(&self.path) {
            Ok(mut new) => {
                let refused = reload::put_back(&self.observer.config().agent, &mut new.agent);
                info!(targets = new.targets.len(), config = %self.path.display(), "configuration read again");
                if !refused.is_empty() {
                    let keys = refused.join(", ");
                    error!("not applied, because a restart of heaptide is needed for it: {keys}");
                }
                self.observer.reconfigure(new);
                self.metrics.loaded(refused.is_empty());
            }
            Err(why) => {
                error!("the old configuration stays in use: {why}");
                self.metrics.loaded(false);
            }
        }
    }
}
