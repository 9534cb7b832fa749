//! The modes that trace allocations in windows: what they find, and that they keep their budget.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::common::http::{Server, free_address, get};
use super::common::leftovers::{traces_calls, uprobe_links};
use super::common::{CALIBRATED, Watched, kernel_alone, until, watch_in};
use serde_json::Value;

/// Deadline for growth to be seen, and for the end of a window.
const TURN: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);
const ON: &str = "allocator probes are on";
const OFF: &str = "allocator probes are off";

/// Ends the agent and returns its report.
fn report(watched: &mut Watched) -> Value {
    watched.finish();
    serde_json::from_str(&watched.read("report.json")).expect("the report is JSON")
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} in {report}"))
}

/// Whether probes had a cost, and at most the default budget or the exempt 1 % of a core.
fn keeps_to_budget(report: &Value) -> bool {
    let overhead = number(report, "/health/overhead_ratio");
    let of_core = number(report, "/health/probe_seconds") / number(report, "/window/seconds");
    overhead > 0.0 && (overhead <= 0.03 || of_core <= 0.01)
}

/// A user who attaches waits for an answer. So allocations are traced at once, until all is judged, and not again
/// while memory does not grow. The cost is within the default budget.
#[test]
fn auto_watches_allocations_until_all_is_judged() {
    let Some(_turn) = kernel_alone("auto_watches_allocations_until_all_is_judged") else {
        return;
    };
    // Each request takes some milliseconds of CPU time, as in a service that renders or computes something.
    let work = ["--work", "2000"];
    let leaky = Server::start_with(&["--leak", "--work", "2000"]);
    let steady = Server::start_with(&work);
    let (traffic, other) = (leaky.traffic(), steady.traffic());
    until(SOON, "both have worked for a while", || {
        traffic.answered() > 100 && other.answered() > 100
    });
    let limit = [
        "--mode",
        "auto",
        "--memory-limit",
        "24MiB",
        "--horizon",
        "1h",
    ];
    let mut of_leaky = watch_in(leaky.process.id(), &limit, &[CALIBRATED]);
    let mut of_steady = watch_in(steady.process.id(), &limit, &[CALIBRATED]);
    of_leaky.agent.error_line(TURN, |line| line.contains(OFF));
    of_steady.agent.error_line(TURN, |line| line.contains(OFF));
    let found = report(&mut of_leaky);
    let quiet = report(&mut of_steady);
    drop((traffic, other));

    assert_eq!(found["verdict"], "leak", "{found}");
    let finding = &found["findings"][0];
    assert_eq!(finding["cause"], "token_keyed", "{finding}");
    assert_eq!(finding["route"], "GET /api/data", "{finding}");
    assert!(
        finding["site"]["function"]
            .as_str()
            .is_some_and(|name| name.contains("keep_session")),
        "{finding}"
    );
    let per_token = number(finding, "/retained_bytes_per_new_token");
    // The session, a node of the map, and a token that is too long for the string's inline buffer.
    assert!((2048.0..2300.0).contains(&per_token), "{per_token}");
    assert_eq!(found["target"]["mode"], "auto");
    assert!(keeps_to_budget(&found), "{found}");

    assert_eq!(quiet["verdict"], "no_leak", "{quiet}");
    let transcript = of_steady.agent.transcript();
    assert!(!transcript.contains(ON), "{transcript}");
    let bound = number(&quiet, "/bound/bytes_per_second");
    assert!(bound > 0.0 && bound < 8_192.0, "{bound}");
    // Request tracing has a cost.
    assert!(keeps_to_budget(&quiet), "{quiet}");
    assert!(number(&quiet, "/window/requests") > 500.0, "{quiet}");
}

/// A window that exceeds the budget ends as soon as it has found something, and the finding remains.
#[test]
fn a_window_that_costs_too_much_ends_and_its_word_stands() {
    let Some(_turn) = kernel_alone("a_window_that_costs_too_much_ends_and_its_word_stands") else {
        return;
    };
    let server = Server::start_leaky();
    // A cost below 1 % of a core is exempt.
    let traffic = server.rush();
    let options = ["--mode", "sample", "--overhead", "0.1%"];
    let mut watched = watch_in(server.process.id(), &options, &[CALIBRATED]);
    watched.agent.error_line(TURN, |line| line.contains(OFF));
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(8) {
        assert!(
            !watched.agent.transcript().contains(ON),
            "it is not earned back so soon"
        );
        thread::sleep(Duration::from_secs(1));
    }
    let report = report(&mut watched);
    drop(traffic);
    assert_eq!(report["verdict"], "suspect", "{report}");
    assert_eq!(report["findings"][0]["cause"], "token_keyed", "{report}");
    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("in windows"), "{said}");
}

/// If tracing requests costs more than the budget, they are traced in windows. In a pause, system calls are not
/// traced, not even for an idle master process, no probe is attached, and requests are not counted.
#[test]
fn requests_are_seen_in_windows_where_they_cost_too_much() {
    let Some(_turn) = kernel_alone("requests_are_seen_in_windows_where_they_cost_too_much") else {
        return;
    };
    let mut server = Server::start_with(&["--prefork"]);
    let rush = server.rush();
    let address = free_address();
    // heaptide's own CPU time counts against the budget too, so features that this test does not need are off.
    // The server hardly uses CPU time at first, so tracing its requests costs more than this part of it.
    let mut options = vec!["--mode", "watch", "--overhead", "40%", "--no-residency"];
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
    assert!(traces_calls(agent), "calls are traced again");
    assert!(uprobe_links(agent) > 0, "the handler has probes again");
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
