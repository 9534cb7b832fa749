//! The HTTP server of `/metrics` and `/healthz`.

mod accept;
mod connections;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::connections::Connections;
use super::OutputError;
use super::metrics::{self, Metrics};

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
        .route("/", get(|| async { "heaptide: /metrics, /healthz\n" }))
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(serve_health))
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

async fn serve_health(State(shown): State<Shown>) -> (StatusCode, String) {
    match shown.metrics.unhealthy() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

#[cfg(test)]
mod tests;
