//! The HTTP server of `/metrics`, `/report`, `/healthz` and `/readyz`.

mod accept;
mod connections;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::connections::Connections;
use super::metrics::{self, Metrics};
use super::{OutputError, html};
use heaptide_judge::stacks::LiveStacks;

/// Pause after a connection could not be accepted, usually because no descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that has bound its port and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds the port. This is done before anything is attached, so a port in use has no side effects.
    pub async fn bind(address: SocketAddr) -> Result<Self, OutputError> {
        let listen = |source| OutputError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "metrics are served to other hosts without authentication; they contain \
                 function names and routes"
            );
        }
        Ok(Self { listener, address })
    }

    /// Its address, with the port that was chosen for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` becomes true or its sender is dropped. Requests in flight may finish.
    pub async fn serve(self, metrics: Metrics, mut stop: watch::Receiver<bool>) {
        let router = router(metrics.clone(), self.address);
        let mut connections = Connections::new(router, metrics);
        loop {
            let accepted = tokio::select! {
                biased;
                // An error means that the sender was dropped, which also ends the server.
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => connections.take(stream),
                Err(why) => {
                    connections.not_accepted(&why);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(self.listener);
        connections.drain().await;
    }
}

/// State of the handlers.
#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    bound: SocketAddr,
}

fn router(metrics: Metrics, bound: SocketAddr) -> Router {
    let shown = Shown { metrics, bound };
    Router::new()
        .route(
            "/",
            get(|| async { "heaptide: /metrics, /report, /report/TARGET, /healthz, /readyz\n" }),
        )
        .route("/metrics", get(serve_metrics))
        .route("/report", get(serve_reports))
        .route("/report/{service}", get(serve_report))
        .route("/healthz", get(serve_health))
        .route("/readyz", get(serve_ready))
        .layer(middleware::from_fn_with_state(shown.clone(), check_host))
        .with_state(shown)
}

/// On loopback only local host names are served. Otherwise a web page could read the metrics through a browser on this
/// host, with a host name that resolves to loopback (DNS rebinding).
async fn check_host(State(shown): State<Shown>, request: Request, next: Next) -> Response {
    if shown.bound.ip().is_loopback() && !accept::is_local(&request, shown.bound.ip()) {
        return (
            StatusCode::FORBIDDEN,
            "only localhost and the address of this server are served\n",
        )
            .into_response();
    }
    next.run(request).await
}

async fn serve_metrics(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let (kind, text) = if accept::wants_openmetrics(&headers) {
        (metrics::OPENMETRICS, shown.metrics.openmetrics())
    } else {
        (metrics::PROMETHEUS, shown.metrics.prometheus())
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "cannot answer /metrics");
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
        }
    };
    let always = [
        (header::CONTENT_TYPE, kind),
        (header::VARY, "accept, accept-encoding"),
    ];
    match accept::wants_gzip(&headers).then(|| accept::gzip(text.as_bytes())) {
        Some(Ok(packed)) => (always, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        // Compression in memory does not fail; if it did, the plain text is sent.
        Some(Err(_)) | None => (always, text).into_response(),
    }
}

/// All reports as JSON by service, for browsers as a list of links.
async fn serve_reports(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let reports = shown.metrics.reports();
    if accept::wants_html(&headers) {
        return Html(html::list(&reports)).into_response();
    }
    as_json(&reports)
}

/// The report of a service as JSON, for browsers as a page.
async fn serve_report(
    State(shown): State<Shown>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(report) = shown.metrics.reports().remove(&service) else {
        let said = "no service of this name is observed: /report lists them\n";
        return (StatusCode::NOT_FOUND, said).into_response();
    };
    if accept::wants_html(&headers) {
        return Html(html::render(&report, &LiveStacks::default())).into_response();
    }
    as_json(&report)
}

fn as_json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot answer /report");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

/// Whether heaptide can work. That nothing is observed because no service runs is not its fault, but is said.
async fn serve_health(State(shown): State<Shown>) -> (StatusCode, String) {
    let (standing, processes) = shown.metrics.standing();
    match (standing.unhealthy, standing.idle) {
        (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
        (None, Some(idle)) => (StatusCode::OK, format!("ok, but {idle}\n")),
        (None, None) => (StatusCode::OK, ok(processes)),
    }
}

/// Whether anything is observed, if anything should be.
async fn serve_ready(State(shown): State<Shown>) -> (StatusCode, String) {
    let (standing, processes) = shown.metrics.standing();
    match standing.unhealthy.or(standing.idle) {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
        None => (StatusCode::OK, ok(processes)),
    }
}

fn ok(processes: u64) -> String {
    format!("ok: {processes} processes are observed\n")
}

#[cfg(test)]
mod tests;
