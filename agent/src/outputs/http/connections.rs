//! The open connections of the metrics server: a bounded number, none for long, and those that have not said what they
//! want make room for others.

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

/// Connections at once.
const MOST: usize = 64;
/// A head that has not arrived by then will not be waited for.
const HEAD: Duration = Duration::from_secs(5);
/// A connection that has not taken its answer by then is closed.
const LONGEST: Duration = Duration::from_secs(20);
/// Time limit for requests in flight at shutdown.
pub(super) const DRAIN: Duration = Duration::from_millis(500);
/// Refusals are logged this often at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The open connections, the oldest first.
pub(super) struct Connections {
    router: Router,
    metrics: Metrics,
    open: Vec<Open>,
    said: Option<Instant>,
}

struct Open {
    /// Its request has come whole.
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

    /// Serves a connection. When there are too many, the one that has waited longest for its request is closed; when all
    /// have asked, the new one.
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

    /// Lets requests in flight finish, for a while.
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
