//! The modes that trace allocations in windows: what they find, and that they keep their budget.

use std::thread;
use std::time::{Duration, Instant};

use super::common::http::Server;
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
