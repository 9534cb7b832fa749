//! The lab's services and its load generator, built and run.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, run};
use super::{http, lab, until};

const BUILD: Duration = Duration::from_secs(600);
const RUN: Duration = Duration::from_secs(60);

/// Builds the Axum service and the load generator. `Err`: why not.
pub(crate) fn build() -> Result<(), String> {
    cargo_build(&[])
}

/// Builds the Axum service with HTTP/2.
pub(crate) fn build_http2() -> Result<(), String> {
    cargo_build(&["--features", "lab-axum/http2", "--bin", "lab-axum-http2"])
}

fn cargo_build(what: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, as in `cargo xtask test`, so that dependencies have the same features and are not built
    // again.
    cargo
        .args(["build", "--release", "--workspace", "--quiet"])
        .args(what);
    // The lab is a separate workspace: variables of this build do not apply to it.
    for name in [
        "CARGO_TARGET_DIR",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    let built = run("cargo", cargo.current_dir(lab("")), BUILD);
    if built.code == Some(0) {
        Ok(())
    } else {
        Err(format!("the lab cannot be built: {}", built.errors))
    }
}

/// A program of the lab's workspace.
pub(crate) fn lab_program(name: &str) -> Command {
    Command::new(lab("target/release").join(name))
}

/// The Axum service on a free port.
pub(crate) fn axum(variant: &str) -> (Process, SocketAddr) {
    start_axum("lab-axum", &["--variant", variant])
}

/// A build of the Axum service with these arguments on a free port. It has two workers on any machine.
pub(crate) fn start_axum(name: &'static str, arguments: &[&str]) -> (Process, SocketAddr) {
    let mut command = lab_program(name);
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let mut service = Process::start(name, command.env("TOKIO_WORKER_THREADS", "2"));
    let line = service.line(RUN, |line| line.contains("http://"));
    let address = line.rsplit('/').next().and_then(|text| text.parse().ok());
    (service, address.expect("an address"))
}

/// The Axum service's response of `/truth`.
pub(crate) fn truth(address: SocketAddr) -> Value {
    let answer = http::get(address, "/truth");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

/// The same after the last grandchildren of `answered` requests of a route have kept their blocks. They may run on
/// after all requests are answered. Also returns the number of requests that this took, all over HTTP/1.
pub(crate) fn truth_of_all(address: SocketAddr, route: &str, answered: u64) -> (Value, u64) {
    let (mut books, mut asked) = (Value::Null, 0);
    until(
        RUN,
        "all tasks that requests have started have ended",
        || {
            books = truth(address);
            asked += 1;
            books["by_route"][route]["count"].as_u64() >= Some(answered)
        },
    );
    (books, asked)
}

/// Drives a service until the load ends. Returns what was sent.
pub(crate) fn load(address: SocketAddr, arguments: &[&str]) -> Value {
    let mut command = lab_program("lab-load");
    command.args(["--target", &address.to_string()]);
    let done = run("lab-load", command.args(arguments), RUN);
    assert_eq!(done.code, Some(0), "{}", done.errors);
    serde_json::from_str(&done.output).expect("JSON")
}
