//! HTTP/2 with the h2 crate (slow, because the service is built once more with it): each stream is a request, and its handler's allocations belong to it, with many streams
//! at once on each connection.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::Duration;

use super::common::process::run;
use super::common::requests::Observer;
use super::common::services::{build_http2, start_axum, truth_of_all};
use super::common::{kernel, skip};
use serde_json::Value;

const RUN: Duration = Duration::from_secs(60);
const REQUESTS: u64 = 2_000;
/// Bytes that the handler keeps per request.
const BYTES: f64 = 5_003.0;

#[test]
fn slow_streams_are_requests_and_keep_their_own_blocks() {
    of_variant(
        "slow_streams_are_requests_and_keep_their_own_blocks",
        "attribution",
    );
}

/// Tasks that a stream's handler has spawned belong to the stream too.
#[test]
fn slow_children_of_streams_inherit_their_request() {
    of_variant("slow_children_of_streams_inherit_their_request", "children");
}

/// Builds the service and checks that h2load is installed. `Err`: why not.
fn prepared() -> Result<(), String> {
    build_http2()?;
    let found = Command::new("h2load").arg("--version").output();
    found
        .map(drop)
        .map_err(|why| format!("h2load: {why} (cargo xtask setup installs it)"))
}

fn of_variant(name: &str, variant: &str) {
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = prepared() {
        return skip(name, &reason);
    }
    let arguments = ["--await-ms", "2", "--variant", variant];
    let (service, address) = start_axum("lab-axum-http2", &arguments);
    let observer = Observer::attach(service.id(), "trace", &[]);

    let mut load = Command::new("h2load");
    load.args(["-n", &REQUESTS.to_string(), "-c", "4", "-m", "16"]);
    load.arg(format!("http://{address}/users/5"));
    let loaded = run("h2load", &mut load, RUN);
    let all = format!("{REQUESTS} succeeded");
    assert!(loaded.output.contains(&all), "{}", loaded.output);
    let (_, asked) = truth_of_all(address, "GET /users/{id}", REQUESTS);
    let (report, lines) = observer.finish();

    let heads: HashMap<u64, &str> = lines
        .iter()
        .filter_map(|line| line["id"].as_u64().zip(line["head"].as_str()))
        .collect();
    let streams: HashSet<u64> = heads
        .iter()
        .filter(|(_, head)| head.contains("HTTP/2 stream"))
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(streams.len() as u64, REQUESTS, "{report}");
    assert_eq!(
        heads.len() as u64,
        REQUESTS + asked,
        "HTTP/1 is seen as well"
    );
    let mut owners: HashMap<u64, f64> = HashMap::new();
    let mut kept = 0.0;
    for group in lines.iter().filter(|line| line["blocks"].is_number()) {
        let blocks = group["blocks"].as_f64().unwrap_or(0.0);
        if (group["bytes"].as_f64().unwrap_or(0.0) - BYTES * blocks).abs() > 0.5 {
            continue;
        }
        kept += blocks;
        if let Some(request) = group["request"].as_u64()
            && group["binding"] == "exact"
            && streams.contains(&request)
        {
            *owners.entry(request).or_default() += blocks;
        }
    }
    assert!((kept - REQUESTS as f64).abs() < 0.5, "{kept} blocks");
    let own = owners
        .values()
        .filter(|blocks| (**blocks - 1.0).abs() < 0.5);
    let own = own.count() as f64;
    eprintln!("{own} of {kept} blocks with their own stream");
    assert!(own >= 0.99 * kept, "{own} of {kept}");

    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("HTTP/2"), "{said}");
    let routes = report["routes"].as_array().expect("routes");
    let requests = routes
        .iter()
        .find(|route| route["route"] == "handler HTTP/2 stream")
        .and_then(|route| route["requests"].as_u64());
    assert_eq!(requests, Some(REQUESTS), "{report}");
}

/// Tokens are not read, so the cause of growth, tokens or requests, is undecided.
#[test]
fn slow_of_streams_no_cause_by_tokens_is_claimed() {
    let name = "slow_of_streams_no_cause_by_tokens_is_claimed";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = prepared() {
        return skip(name, &reason);
    }
    let (service, address) = start_axum("lab-axum-http2", &["--variant", "attribution"]);
    let observer = Observer::attach(service.id(), "trace", &[]);
    let mut load = Command::new("h2load");
    load.args(["-D", "25", "-c", "2", "-m", "2", "--rps", "50"]);
    load.arg(format!("http://{address}/users/5"));
    let loaded = run("h2load", &mut load, RUN);
    assert_eq!(loaded.code, Some(0), "{}", loaded.errors);
    let (report, _): (Value, _) = observer.finish();
    let findings = report["findings"].as_array().expect("findings");
    let of_streams = findings
        .iter()
        .find(|finding| finding["route"] == "handler HTTP/2 stream")
        .unwrap_or_else(|| panic!("{report}"));
    assert_eq!(of_streams["state"], "suspect", "{of_streams}");
    assert_eq!(of_streams["cause"], "indeterminate", "{of_streams}");
}
