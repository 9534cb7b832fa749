//! The HTTP server of `/metrics` and `/healthz`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::OutputError;
use super::metrics::{self, Metrics};

/// Time limit for requests in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

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
    pub async fn serve(
        self,
        metrics: Metrics,
        stop: watch::Receiver<bool>,
    ) -> Result<(), OutputError> {
        let address = self.address;
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // An error means that the sender was dropped, which also ends the server.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let serving = axum::serve(self.listener, router(metrics))
            .with_graceful_shutdown(stopped(stop.clone()))
            .into_future();
        let deadline = async {
            stopped(stop).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(|source| OutputError::Serve { address, source }),
            () = deadline => Ok(()),
        }
    }
}

fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/", get(|| async { "heaptide: /metrics, /healthz\n" }))
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(serve_health))
        .with_state(metrics)
}

async fn serve_metrics(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let (kind, text) = if wants_prometheus_text(&headers) {
        (metrics::PROMETHEUS, metrics.prometheus())
    } else {
        (metrics::OPENMETRICS, metrics.openmetrics())
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot answer /metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

/// Serves `OpenMetrics`, unless a client accepts plain text and not `OpenMetrics`.
fn wants_prometheus_text(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let names = |kind| accepted.iter().any(|value| value.contains(kind));
    names("text/plain") && !names("application/openmetrics-text")
}

async fn serve_health(State(metrics): State<Metrics>) -> (StatusCode, String) {
    match metrics.unhealthy() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use heaptide_judge::fixtures;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn ask(address: SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_until_the_stop() {
        let server = Server::bind(LOOPBACK).await.unwrap();
        let address = server.address();
        let metrics = Metrics::new();
        metrics.update(None, &fixtures::leak());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(metrics.clone(), stopped));

        let answer = ask(address, "/metrics", "*/*").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("content-type: {}\r\n", metrics::OPENMETRICS)));
        assert!(answer.ends_with("# EOF\n"));
        let both = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert!(ask(address, "/metrics", both).await.ends_with("# EOF\n"));
        let answer = ask(address, "/metrics", "text/plain").await;
        assert!(answer.contains(&format!("content-type: {}\r\n", metrics::PROMETHEUS)));
        assert!(answer.contains("# TYPE heaptide_requests_total counter"));

        assert!(
            ask(address, "/healthz", "*/*")
                .await
                .starts_with("HTTP/1.1 200")
        );
        metrics.set_unhealthy(Some("no probe could be attached".to_owned()));
        let answer = ask(address, "/healthz", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("no probe"),
            "{answer}"
        );
        assert!(
            ask(address, "/secret", "*/*")
                .await
                .starts_with("HTTP/1.1 404")
        );

        // A connection that sends nothing must not delay the shutdown.
        let _idle = TcpStream::connect(address).await.unwrap();
        stop.send(true).unwrap();
        let ended = tokio::time::timeout(DRAIN * 3, serving).await;
        ended.expect("the server did not stop").unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_a_clear_error() {
        let first = Server::bind(LOOPBACK).await.unwrap();
        let error = Server::bind(first.address()).await.unwrap_err().to_string();
        assert!(error.contains("another program uses this port"), "{error}");
        assert!(
            error.contains(&format!("sport = :{}", first.address().port())),
            "{error}"
        );
    }
}
