//! A recorded observation that is judged again gives the same report.

use std::fs;
use std::time::Duration;

use super::common::http::{Server, free_address, get};
use super::common::process::run;
use super::common::{FINISH, heaptide, kernel, until, watch};
use serde_json::Value;

/// Deadline for a suspicion: the maturity age, and the growth that a suspicion needs, on a busy machine.
const SUSPECTED: Duration = Duration::from_secs(120);

#[test]
fn a_replay_says_the_same() {
    let Some(_turn) = kernel("a_replay_says_the_same") else {
        return;
    };
    let server = Server::start_leaky();
    let folder = super::common::folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (capture, flame, again) = (at("capture"), at("flame.svg"), at("again.svg"));
    let metrics = free_address();
    let mut options = vec!["--record", &capture, "--flamegraph", &flame];
    let address = metrics.to_string();
    options.extend(["--metrics", &address]);
    let mut watched = watch(server.process.id(), &options);
    let traffic = server.traffic();
    until(SUSPECTED, "the leak is suspected", || {
        let page = get(metrics, "/metrics");
        let mut lines = page.lines();
        lines.any(|line| line.contains("verdict=\"suspect\"") && line.ends_with(" 1.0"))
    });
    drop(traffic);
    watched.finish();
    let live: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let arguments = [
        "replay",
        &capture,
        "--format",
        "json",
        "--flamegraph",
        &again,
    ];
    let replayed = run("heaptide", &mut heaptide(&arguments), FINISH);
    assert_eq!(replayed.code, Some(0), "{replayed:#?}");
    let replayed: Value = serde_json::from_str(&replayed.output).expect("JSON");

    assert_eq!(live["verdict"], "suspect", "{live:#}");
    for part in [
        "target", "window", "verdict", "reason", "findings", "routes", "memory",
    ] {
        assert_eq!(live[part], replayed[part], "{part}");
    }
    // The report and the capture of one run are the same run.
    let report = at("live.json");
    fs::write(&report, watched.read("report.json")).expect("written");
    let arguments = ["diff", &report, &capture, "--format", "json", "--exit-code"];
    let compared = run("heaptide", &mut heaptide(&arguments), FINISH);
    assert_eq!(compared.code, Some(0), "{compared:#?}");
    let compared: Value = serde_json::from_str(&compared.output).expect("JSON");
    assert_eq!(compared["outcome"], "no_difference", "{compared:#}");
    assert_eq!(compared["changes"][0]["kind"], "same", "{compared:#}");
    assert_eq!(
        compared["changes"][0]["route"], live["findings"][0]["route"],
        "{compared:#}"
    );

    let size = |path: &str| fs::metadata(path).expect("written").len();
    assert!(size(&flame) > 2000);
    assert_eq!(size(&flame), size(&again), "the same stacks");

    // A killed agent leaves a capture without its end.
    let bytes = fs::read(&capture).expect("the capture");
    fs::write(&capture, &bytes[..bytes.len() * 9 / 10]).expect("cut");
    let cut = run("heaptide", &mut heaptide(&["replay", &capture]), FINISH);
    assert_eq!(cut.code, Some(0), "{cut:#?}");
    cut.names(&["ends within frame", "the frames before it were used"]);
}
