//! Request tracing in windows, where it costs more than the budget.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::common::http::{Server, free_address, get};
use super::common::leftovers::{traces_calls, uprobe_links};
use super::common::{CALIBRATED, Watched, kernel, until, watch_in};
use serde_json::Value;

/// For a window to be over.
const TURN: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);

/// The report, when the agent has ended.
fn report(watched: &mut Watched) -> Value {
    watched.finish();
    serde_json::from_str(&watched.read("report.json")).expect("the report is JSON")
}

/// If tracing requests costs more than the budget, they are traced in windows. In a pause, system calls are not
/// traced, not even for an idle master process, no probe is attached, and requests are not counted.
#[test]
fn requests_are_seen_in_windows_where_they_cost_too_much() {
    let Some(_turn) = kernel("requests_are_seen_in_windows_where_they_cost_too_much") else {
        return;
    };
    let mut server = Server::start_with(&["--prefork"]);
    let rush = server.rush();
    let address = free_address();
    // heaptide's own CPU time counts against the budget too, so features that this test does not need are off.
    // The server hardly uses CPU time at first, so tracing its requests costs more than this part of it.
    let mut options = vec!["--mode", "watch", "--overhead", "20%", "--no-residency"];
    options.extend(["--handler", "::work", "--metrics"]);
    let mut watched = watch_in(
        server.process.id(),
        &[&options[..], &[&address.to_string()]].concat(),
        &[CALIBRATED],
    );
    let agent = watched.agent.id();
    assert!(uprobe_links(agent) > 0, "the handler has probes");
    let of_requests =
        |said: &str, what: &str| said.contains("request tracing is") && said.contains(what);
    let off = watched
        .agent
        .error_line(TURN, |line| of_requests(line, "paused"));
    until(
        SOON,
        "in a pause no call is traced and no uprobe is attached",
        || !traces_calls(agent) && uprobe_links(agent) == 0,
    );
    // The metrics are those of the last report.
    until(SOON, "requests from before the pause are counted", || {
        metric(address, "heaptide_requests_seen") < 0.5
    });
    let observed = || metric(address, "heaptide_observed_seconds");
    let paused = observed();
    until(SOON, "later reports have come", || {
        observed() > paused + 2.0
    });
    let before = metric(address, "heaptide_requests_total");
    thread::sleep(Duration::from_secs(5));
    let after = metric(address, "heaptide_requests_total");
    assert!((after - before).abs() < 0.5, "{before} .. {after}");
    assert!(metric(address, "heaptide_requests_seen") < 0.5);
    assert!(before > 5_000.0, "{before}");
    // The more CPU time the server uses, the sooner the budget is earned back.
    let burn = server.burn();
    // On a slow machine, or with a slow build of the agent, the pause is longer.
    watched
        .agent
        .error_line(pause_seconds(&off) + TURN, |line| of_requests(line, "on"));
    until(
        SOON,
        "calls are traced and the handler has probes again",
        || traces_calls(agent) && uprobe_links(agent) > 0,
    );
    until(SOON, "requests are counted again", || {
        metric(address, "heaptide_requests_total") > after + 1_000.0
    });
    drop((rush, burn));
    assert!(server.is_well());
    let report = report(&mut watched);
    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("requests are traced in windows"), "{said}");
    let routes = report["routes"].as_array().expect("routes");
    assert!(
        routes.iter().any(|route| route["route"] == "GET /api/data"),
        "{report}"
    );
}

/// Length of the pause, as in the log.
fn pause_seconds(off: &str) -> Duration {
    let seconds = off.split("for about ").nth(1).and_then(|rest| {
        let number = rest.split(' ').next()?;
        number.parse().ok()
    });
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("no seconds in {off}")))
}

/// The sum of a metric's values.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics");
    let values = text.lines().filter_map(|line| {
        let (labelled, value) = line.rsplit_once(' ')?;
        let found = labelled.split('{').next()? == name;
        found.then(|| value.parse::<f64>().ok()).flatten()
    });
    values.sum()
}
