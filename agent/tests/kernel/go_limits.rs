//! Go in unusual conditions: an attach under full load, an unknown version, C memory in the same process, a heap
//! profile that is switched on and off again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::common::go::{self, Service};
use super::common::leftovers::traces_calls;
use super::common::process::Process;
use super::common::requests::Observer;
use super::common::services::{build as build_load, lab_program};
use super::common::{CALIBRATED, FINISH, folder, kernel, skip, until, watch, watch_in};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn attaching_and_detaching_under_load_harms_nobody() {
    let name = "attaching_and_detaching_under_load_harms_nobody";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build_load().and_then(|()| go::build()) {
        return skip(name, &reason);
    }
    for (program, mode) in [("echo-1.27", "trace"), ("nethttp-1.27-stripped", "watch")] {
        // Stacks of 200 frames come and go with every request.
        let mut service = Service::start(program, "deep-stacks");
        let mut load = lab_program("lab-load");
        load.args(["--target", &service.address.to_string()]);
        load.args(["--closed-loop", "--for", "600", "--connections", "32"]);
        let mut load = Process::start("lab-load", &mut load);
        let attached = 4;
        for _ in 0..attached {
            let mut watched = watch(service.process.id(), &["--mode", mode]);
            let requests = || service.truth()["total_requests"].as_u64();
            let before = requests().expect("a number");
            until(PATIENCE, "requests are answered with probes", || {
                requests() > Some(before + 200)
            });
            watched.finish();
        }
        assert!(load.runs(), "{}", load.transcript());
        load.signal(libc::SIGINT);
        let status = load.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", load.transcript());
        let sent: Value = serde_json::from_str(&load.output()).expect("JSON");
        assert!(service.process.runs(), "{}", service.process.transcript());
        let requests = service.truth()["total_requests"].as_u64();
        eprintln!("{program}: attached {attached} times, {requests:?} requests");
        assert_eq!(sent["failed"], 0, "{sent}");
        assert!(requests > Some(1000), "{requests:?}");
    }
}

#[test]
fn an_unknown_version_is_said_and_its_requests_are_seen() {
    let name = "an_unknown_version_is_said_and_its_requests_are_seen";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build_load().and_then(|()| go::build_with("1.27")) {
        return skip(name, &reason);
    }
    let folder = folder();
    let path = folder.path().join("echo-of-tomorrow");
    let mut bytes = fs::read(go::path("echo-1.27")).expect("the program");
    let known = b"go1.27.3";
    let mut changed = 0;
    for at in 0..bytes.len() - known.len() {
        if bytes[at..].starts_with(known) {
            bytes[at..at + known.len()].copy_from_slice(b"go1.99.9");
            changed += 1;
        }
    }
    assert!(changed > 0, "the program does not contain its version");
    fs::write(&path, bytes).expect("a copy");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("to run it");
    let service = Service::start_at(path, "token-cache");
    let observer = Observer::attach(service.process.id(), "trace", &[]);
    let mut load = lab_program("lab-load");
    load.args(["--target", &service.address.to_string(), "--rate", "200"]);
    load.args(["--for", "3", "--connections", "4"]);
    let mut load = Process::start("lab-load", &mut load);
    assert_eq!(load.wait(PATIENCE).code(), Some(0), "{}", load.transcript());
    let sent = service.truth()["total_requests"]
        .as_u64()
        .expect("a number");
    let (report, _) = observer.finish();
    assert_eq!(report["target"]["runtime"], "go 1.99.9");
    let limitations = report["target"]["limitations"].to_string();
    assert!(
        limitations.contains("the layout of go 1.99.9 is unknown"),
        "{limitations}"
    );
    let seen = report["window"]["requests"].as_u64().expect("a number");
    // The load's requests, and those of this test for `/truth`.
    assert!(seen >= sent && seen <= sent + 2, "{seen} of {sent}");
    assert!(matches!(
        report["verdict"].as_str(),
        Some("insufficient_evidence" | "no_leak")
    ));
}

/// Probes in net/http see all requests, so system calls are not traced. That would cost this process and others.
#[test]
fn system_calls_are_not_traced_where_nothing_is_seen_by_them() {
    let name = "system_calls_are_not_traced_where_nothing_is_seen_by_them";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = go::build() {
        return skip(name, &reason);
    }
    let service = Service::start("nethttp-1.27", "stateless");
    for mode in ["watch", "trace"] {
        let options = ["--mode", mode];
        let mut watched = watch_in(service.process.id(), &options, &[CALIBRATED]);
        // In mode `trace` they were traced for the program that calibrates the cost of probes.
        until(PATIENCE, mode, || !traces_calls(watched.agent.id()));
        service.truth();
        watched.finish();
        let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
        assert_eq!(report["window"]["requests"], 1, "{mode}");
    }
}

#[test]
fn a_profile_that_was_switched_on_is_switched_off_again() {
    let name = "a_profile_that_was_switched_on_is_switched_off_again";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build_load().and_then(|()| go::build()) {
        return skip(name, &reason);
    }
    for (program, signal) in [
        ("echo-1.21-stripped", libc::SIGTERM),
        ("nethttp-1.27", libc::SIGINT),
    ] {
        let service = Service::start(program, "token-cache");
        let rate = || service.truth()["collector"]["profile_rate"].as_u64();
        let before = rate();
        let mut untouched = watch(service.process.id(), &["--mode", "watch"]);
        assert_eq!(rate(), before, "the rate was changed without the option");
        untouched.finish();
        let mut watched = watch(
            service.process.id(),
            &["--mode", "watch", "--go-enable-memprofile"],
        );
        // A program with an active profile keeps its own rate.
        let on = if before == Some(0) {
            Some(32 << 10)
        } else {
            before
        };
        assert_eq!(rate(), on);
        watched.agent.signal(signal);
        let status = watched.agent.wait(FINISH);
        assert_eq!(status.code(), Some(0), "{}", watched.agent.transcript());
        assert_eq!(rate(), before, "{}", watched.agent.transcript());
        if before == Some(0) {
            let said = watched.agent.errors() + &watched.read("report.json");
            assert!(said.contains("--go-enable-memprofile"), "{said}");
        }
    }
}
