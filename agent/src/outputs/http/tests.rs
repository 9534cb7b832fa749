//! Tests of the HTTP server, over real connections.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::connections::DRAIN;
use super::*;
use heaptide_judge::fixtures;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let server = Server::bind(LOOPBACK).await.unwrap();
        let address = server.address();
        let metrics = Metrics::new();
        let reports = vec![fixtures::leak()];
        metrics.publish([("python3.11".to_owned(), reports)].into());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(metrics.clone(), stopped));
        Self {
            address,
            metrics,
            stop,
            serving,
        }
    }

    async fn ask(&self, path: &str, lines: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("an answer").unwrap();
        answer
    }

    async fn text(&self, path: &str, lines: &str) -> String {
        let lines = format!("Host: localhost\r\n{lines}");
        String::from_utf8(self.ask(path, &lines).await).unwrap()
    }

    async fn stops(self) {
        self.stop.send(true).unwrap();
        let ended = tokio::time::timeout(DRAIN + PATIENCE, self.serving).await;
        ended.expect("the server did not stop").unwrap();
    }
}

#[tokio::test]
async fn metrics_and_health_are_served_until_the_stop() {
    let server = Running::start().await;
    let answer = server.text("/metrics", "Accept: */*\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("content-type: {}\r\n", metrics::PROMETHEUS)));
    assert!(answer.contains("# TYPE heaptide_requests_total counter"));
    let both = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let answer = server.text("/metrics", both).await;
    assert!(answer.contains(&format!("content-type: {}\r\n", metrics::OPENMETRICS)));
    assert!(answer.ends_with("# EOF\n"));

    assert!(
        server
            .text("/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let idle = Some("no process matches".to_owned());
    for (unhealthy, health, ready) in [
        (None, "HTTP/1.1 200", "HTTP/1.1 503"),
        (
            Some("no process matches".to_owned()),
            "HTTP/1.1 503",
            "HTTP/1.1 503",
        ),
    ] {
        server.metrics.set_standing(metrics::Standing {
            unhealthy,
            idle: idle.clone(),
        });
        for (path, status) in [("/healthz", health), ("/readyz", ready)] {
            let answer = server.text(path, "").await;
            assert!(
                answer.starts_with(status) && answer.contains("no process matches"),
                "{path}: {answer}"
            );
        }
    }
    server.metrics.set_standing(metrics::Standing::default());
    let answer = server.text("/readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.text("/secret", "").await.starts_with("HTTP/1.1 404"));

    // A connection that sends nothing must not delay the shutdown.
    let _idle = TcpStream::connect(server.address).await.unwrap();
    server.stops().await;
}

#[tokio::test]
async fn other_names_of_this_host_are_refused_on_loopback() {
    let server = Running::start().await;
    for path in ["/", "/metrics", "/healthz", "/secret"] {
        let answer = server.ask(path, "Host: rebound.example:9876\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{path}");
        assert!(!String::from_utf8_lossy(&answer).contains("heaptide_"));
        let answer = server.ask(path, "").await;
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{path} without a name");
        let both = "Host: localhost\r\nHost: rebound.example\r\n";
        let answer = server.ask(path, both).await;
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{path} with two names");
    }
    let own = format!("Host: {}\r\n", server.address);
    assert!(
        server
            .ask("/healthz", &own)
            .await
            .starts_with(b"HTTP/1.1 200")
    );
    server.stops().await;
}

#[tokio::test]
async fn answers_are_packed_when_asked_for() {
    let server = Running::start().await;
    let plain = server.text("/metrics", "").await;
    let lines = "Host: localhost\r\nAccept-Encoding: gzip, deflate\r\n";
    let packed = server.ask("/metrics", lines).await;
    let end = packed
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    let head = String::from_utf8_lossy(&packed[..end]).into_owned();
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&packed[end..]);
    decoder.read_to_string(&mut text).unwrap();
    let names = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&text), names(&plain));
    assert!(!names(&text).is_empty() && packed.len() < plain.len() / 2);
    server.stops().await;
}

/// Incomplete requests are closed soon and do not block others, and late heads are not read.
#[tokio::test]
async fn half_sent_requests_keep_nobody_out() {
    const CROWD: usize = 300;
    let server = Running::start().await;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHo")
            .await
            .unwrap();
        crowd.push(stream);
        if number % 50 == 0 {
            let answer = server.text("/healthz", "").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "behind {number} others");
        }
    }
    let answer = server.text("/metrics", "").await;
    let refused = answer
        .lines()
        .find_map(|line| line.strip_prefix("heaptide_refused_connections_total "))
        .and_then(|count| count.parse::<f64>().ok());
    assert!(refused >= Some((CROWD - 64) as f64), "{refused:?}");
    // All are closed within the timeout of a head, without a useful response.
    for mut stream in crowd {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // An error is a reset connection.
        let _ = read.expect("a connection stays open");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
    server.stops().await;
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

#[tokio::test]
async fn reports_are_json_for_programs_and_pages_for_browsers() {
    let running = Running::start().await;
    let close = "Connection: close\r\n";
    let all = running.text("/report", close).await;
    let (_, body) = all.split_once("\r\n\r\n").unwrap();
    let all: serde_json::Value = serde_json::from_str(body).unwrap();
    let (service, _) = all.as_object().unwrap().iter().next().unwrap();
    let one = running.text(&format!("/report/{service}"), close).await;
    let (_, body) = one.split_once("\r\n\r\n").unwrap();
    let one: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(one["schema"], "heaptide.report/v1");
    assert_eq!(one, all[service]);

    let browser = "Connection: close\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let list = running.text("/report", browser).await;
    assert!(list.contains("text/html") && list.contains(&format!("href=\"/report/{service}\"")));
    let page = running.text(&format!("/report/{service}"), browser).await;
    assert!(page.contains("<!DOCTYPE html>"), "{page}");
    let none = running.text("/report/nothing", close).await;
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    running.stops().await;
}
