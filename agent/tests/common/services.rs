//! The lab's services and its load generator, built and run.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::lab;
use super::process::{Process, run};

const BUILD: Duration = Duration::from_secs(600);
const RUN: Duration = Duration::from_secs(60);

/// Builds the Axum service and the load generator. `Err`: why not.
pub(crate) fn build() -> Result<(), String> {
    cargo_build(&["-p", "lab-axum", "-p", "lab-load"])
}

/// Builds the Axum service with HTTP/2.
pub(crate) fn build_http2() -> Result<(), String> {
    let name = "lab-axum-http2";
    cargo_build(&["-p", "lab-axum", "--features", "http2", "--bin", name])
}

fn cargo_build(what: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet"]).args(what);
    // The lab is a workspace of its own: nothing of this build's is meant for it.
    for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
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

/// A build of the Axum service with these arguments and two workers, whatever this machine has, on a free port.
pub(crate) fn start_axum(name: &'static str, arguments: &[&str]) -> (Process, SocketAddr) {
    let mut command = lab_program(name);
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let mut service = Process::start(name, command.env("TOKIO_WORKER_THREADS", "2"));
    let line = service.line(RUN, |line| line.contains("http://"));
    let address = line.rsplit('/').next().and_then(|text| text.parse().ok());
    (service, address.expect("an address"))
}

/// Drives a service to the end of the load; what was sent.
pub(crate) fn load(address: SocketAddr, arguments: &[&str]) -> Value {
    let mut command = lab_program("lab-load");
    command.args(["--target", &address.to_string()]);
    let done = run("lab-load", command.args(arguments), RUN);
    assert_eq!(done.code, Some(0), "{}", done.errors);
    serde_json::from_str(&done.output).expect("JSON")
}
