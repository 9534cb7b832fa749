//! The open connections of the metrics server: limited in number and time. Connections without a complete request are
//! closed first to make room.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::outputs::metrics::Metrics;

/// Maximum connections at once.
const MOST: usize = 64;
/// Timeout of a request head.
const HEAD: Duration = Duration::from_secs(5);
/// Timeout of a connection.
const LONGEST: Duration = Duration::from_secs(20);
/// Time limit for requests in flight at shutdown.
pub(super) const DRAIN: Duration = Duration::from_millis(500);
/// Minimum interval of log lines on refusals.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The open connections, oldest first.
pub(super) struct Connections {
    router: Router,
    metrics: Metrics,
    open: Vec<Open>,
    said: Option<Instant>,
}

struct Open {
    /// Its request is complete.
    asked: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Connections {
    pub(super) fn new(router: Router, metrics: Metrics) -> Self {
        Self {
            router,
            metrics,
            open: Vec::new(),
            said: None,
        }
    }

    /// Serves a connection. If there are too many, the one that has waited longest for its request is closed; if all
    /// requests are complete, the new one.
    pub(super) fn take(&mut self, stream: TcpStream) {
        self.open.retain(|one| !one.task.is_finished());
        if self.open.len() >= MOST {
            let waiting = |one: &Open| !one.asked.load(Ordering::Relaxed);
            let oldest = self.open.iter().position(waiting);
            self.metrics.count_refused_connection();
            self.say("too many connections to the metrics server: some are closed unanswered");
            match oldest {
                Some(index) => self.open.remove(index).task.abort(),
                None => return,
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(serve(stream, self.router.clone(), asked.clone()));
        self.open.push(Open { asked, task });
    }

    /// A connection could not be accepted.
    pub(super) fn not_accepted(&mut self, why: &io::Error) {
        self.metrics.count_refused_connection();
        self.say(&format!(
            "the metrics server cannot accept a connection: {why}"
        ));
    }

    /// Waits for requests in flight to finish.
    pub(super) async fn drain(self) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        for mut one in self.open {
            let asked = one.asked.load(Ordering::Relaxed);
            if !asked
                || tokio::time::timeout_at(deadline, &mut one.task)
                    .await
                    .is_err()
            {
                one.task.abort();
            }
        }
    }

    fn say(&mut self, what: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}

/// Answers one request.
async fn serve(stream: TcpStream, router: Router, asked: Arc<AtomicBool>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LONGEST, served).await {
        Ok(Err(why)) => tracing::debug!("a connection to the metrics server: {why}"),
        Err(_) => tracing::debug!("a connection to the metrics server did not take its answer"),
        Ok(Ok(())) => {}
    }
}
