//! Tokens of finished requests in the memory of real services: all of them if a map keeps them, as many as a bounded
//! cache has entries, and nearly none if nothing is kept.

use std::thread;
use std::time::Duration;

use super::common::services::{axum, build, load};
use super::common::{Watched, http, kernel, skip, until, watch};
use serde_json::Value;

/// Deadline for a search: the last token counts after ten seconds, and there are pauses between searches.
const SEARCHED: Duration = Duration::from_secs(120);
/// Requests with a different token each.
const LOAD: [&str; 12] = [
    "--rate",
    "400",
    "--connections",
    "4",
    "--for",
    "8",
    "--fresh",
    "1",
    "--repeat",
    "0",
    "--routes",
    "GET /api/data=1",
];

/// The report after all tokens of a load were searched for in the variant's memory, and the number of these tokens.
fn searched(variant: &str, mode: &str) -> (Value, u64) {
    let (service, address) = axum(variant);
    let metrics = http::free_address();
    let mut watched: Watched = watch(
        service.id(),
        &["--mode", mode, "--metrics", &metrics.to_string()],
    );
    let truth = load(address, &LOAD);
    let tokens = truth["distinct_tokens"].as_u64().expect("a number");
    assert!(tokens > 2500, "too few tokens: {truth}");
    until(SEARCHED, "all tokens are searched for", || {
        let page = http::get(metrics, "/metrics");
        let lines = page
            .lines()
            .filter(|line| line.starts_with("heaptide_tokens_searched{"));
        let found: f64 = lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        found as u64 >= tokens
    });
    watched.finish();
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let residency = &report["residency"];
    eprintln!("{variant}: {tokens} tokens sent, {residency}");
    assert_eq!(residency["tokens"].as_u64(), Some(tokens));
    assert_eq!(residency["cut"], false);
    // A service that keeps nothing has less than a mebibyte of written pages.
    assert!(residency["scanned_bytes"].as_u64() > Some(1 << 18));
    (report, tokens)
}

fn resident(report: &Value) -> u64 {
    let residency = &report["residency"];
    let ages = residency["ages"].as_array().expect("ages");
    let sum = |name: &str| {
        ages.iter()
            .filter_map(|age| age[name].as_u64())
            .sum::<u64>()
    };
    assert_eq!(residency["tokens"], sum("tokens"), "{residency}");
    assert_eq!(residency["resident"], sum("resident"), "{residency}");
    sum("resident")
}

#[test]
fn a_map_keeps_every_token() {
    let Some(_turn) = kernel("a_map_keeps_every_token") else {
        return;
    };
    if let Err(reason) = build() {
        return skip("a_map_keeps_every_token", &reason);
    }
    let (report, tokens) = searched("token-cache", "trace");
    assert_eq!(resident(&report), tokens);
    let said = report["residency"]["said"].as_str().expect("a sentence");
    assert!(said.contains("are still in memory"), "{said}");
    let findings = report["findings"].as_array().expect("findings");
    let evidence = findings.iter().filter_map(|one| one["evidence"].as_array());
    let evidence: Vec<&str> = evidence.flatten().filter_map(Value::as_str).collect();
    assert!(
        evidence
            .iter()
            .any(|one| one.contains("tokens themselves are kept")),
        "{evidence:#?}"
    );
}

#[test]
fn a_bounded_cache_keeps_its_entries() {
    let Some(_turn) = kernel("a_bounded_cache_keeps_its_entries") else {
        return;
    };
    if let Err(reason) = build() {
        return skip("a_bounded_cache_keeps_its_entries", &reason);
    }
    let (report, _) = searched("lru-1024", "watch");
    let resident = resident(&report);
    // Freed blocks are not overwritten, so some evicted tokens remain readable until their block is reused.
    assert!(
        (1024..1024 + 256).contains(&resident),
        "{resident} of 1,024"
    );
}

#[test]
fn a_stateless_service_keeps_none() {
    let Some(_turn) = kernel("a_stateless_service_keeps_none") else {
        return;
    };
    if let Err(reason) = build() {
        return skip("a_stateless_service_keeps_none", &reason);
    }
    let (report, tokens) = searched("stateless", "watch");
    let resident = resident(&report);
    // The last heads are in the connections' buffers, and in freed blocks until these are reused.
    assert!(resident < tokens / 20, "{resident} of {tokens}");
}

#[test]
fn it_can_be_switched_off() {
    let Some(_turn) = kernel("it_can_be_switched_off") else {
        return;
    };
    let server = http::Server::start();
    let _traffic = server.traffic();
    let mut watched = watch(server.process.id(), &["--mode", "watch", "--no-residency"]);
    thread::sleep(Duration::from_secs(16));
    watched.finish();
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    assert!(report["window"]["new_tokens"].as_u64() > Some(100));
    assert_eq!(report["residency"], Value::Null);
}
