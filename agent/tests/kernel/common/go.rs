//! The lab's Go services, built and run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, run};
use super::{http, lab};

const BUILD: Duration = Duration::from_secs(900);
/// The versions of the everyday tests.
pub(crate) const VERSIONS: [&str; 2] = ["1.21", "1.27"];

/// Builds the services with all toolchains. `Err`: why not.
pub(crate) fn build() -> Result<(), String> {
    for version in VERSIONS {
        build_with(version)?;
    }
    Ok(())
}

/// The same with one toolchain.
pub(crate) fn build_with(version: &str) -> Result<(), String> {
    if !lab("target/go").join(version).join("go/bin/go").is_file() {
        return Err(format!(
            "no Go {version}: run cargo xtask setup --lab, or setup --lab --all"
        ));
    }
    let built = run(
        "build.sh",
        Command::new(lab("go/build.sh")).arg(version),
        BUILD,
    );
    if built.code == Some(0) {
        Ok(())
    } else {
        Err(format!("Go {version} cannot build: {}", built.errors))
    }
}

/// Those of `programs` that can be built here. They are of Go versions between the oldest and the newest
/// (`nethttp-1.22`), whose toolchains `cargo xtask setup --lab --all` installs. The others are reported as skipped.
pub(crate) fn between(programs: &[&'static str]) -> Vec<&'static str> {
    let can_be_built = |program: &&&str| {
        let version = program.split('-').nth(1).unwrap_or(program);
        let built = build_with(version);
        if let Err(reason) = &built {
            eprintln!("SKIPPED Go {version}: {reason}");
        }
        built.is_ok()
    };
    programs.iter().filter(can_be_built).copied().collect()
}

/// A program of lab/go (`echo-1.27-stripped`).
pub(crate) fn path(name: &str) -> PathBuf {
    lab("go/target").join(name)
}

/// A running service.
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts a program of lab/go and waits until it answers.
    pub(crate) fn start(name: &str, variant: &str) -> Self {
        Self::start_at(path(name), variant)
    }

    /// The same for a program elsewhere.
    pub(crate) fn start_at(path: PathBuf, variant: &str) -> Self {
        Self::start_with(path, &["--variant", variant])
    }

    /// The same with other arguments.
    pub(crate) fn start_with(path: PathBuf, arguments: &[&str]) -> Self {
        let address = http::free_address();
        let mut command = Command::new(path);
        command.args(["--listen", &address.to_string()]);
        command.args(arguments);
        let mut process = Process::start("a Go service", &mut command);
        http::wait_for(&mut process, address);
        Self { process, address }
    }

    /// The response of `/truth`.
    pub(crate) fn truth(&self) -> Value {
        let answer = http::get(self.address, "/truth");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        // Go answers in chunks when it does not know the length.
        let from = body.find('{').expect("JSON");
        let to = body.rfind('}').expect("JSON");
        serde_json::from_str(&body[from..=to]).expect("JSON")
    }
}
