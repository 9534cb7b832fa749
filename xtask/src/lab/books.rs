//! Compares a service's own counts with the load generator's, without heaptide: a test of the lab's
//! truth.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::catalog::{Service, Variant};
use super::{http, service};

/// Two tokens may share a bit in the service's estimate of distinct tokens.
const SAME_BIT: f64 = 0.01;

/// Drives a variant for some seconds and compares; returns the differences.
pub(crate) fn compare(from: &Service, variant: &Variant, rate: u32, seconds: u64) -> Result<()> {
    let mut started = service::start(from, &variant.name)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let path = folder.path().join("load.json");
    let mut load = service::load(
        started.port,
        rate,
        seconds,
        &path,
        &service::load_words(from, variant),
    )?;
    load.wait().context("the load generator")?;
    // The last request is counted, and its entry published, after its answer was sent.
    thread::sleep(Duration::from_millis(100));
    let truth = http::truth(started.port)?;
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    if !started.process.is_alive() {
        bail!("the service did not survive");
    }
    let differences = differences(from, variant, &sent, &truth);
    if !differences.is_empty() {
        bail!("{}", differences.join("; "));
    }
    Ok(())
}

fn differences(from: &Service, variant: &Variant, sent: &Value, truth: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut same = |what: &str, sent: f64, counted: f64, slack: f64| {
        if (sent - counted).abs() > slack {
            found.push(format!(
                "{what}: {sent} sent, {counted} counted by the service"
            ));
        }
    };
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    same("failed requests", number(&sent["failed"]), 0.0, 0.0);
    let routes = sent["routes"].as_object();
    for (route, sent) in routes.into_iter().flatten() {
        // One GET /health is sent at the start by the lab itself.
        let ours = f64::from(u8::from(route == "GET /health"));
        same(
            route,
            number(&sent["requests"]) + ours,
            number(&truth["requests"][route.as_str()]),
            0.0,
        );
    }
    let tokens = number(&sent["distinct_tokens"]);
    same(
        "distinct tokens",
        tokens,
        number(&truth["distinct_tokens"]),
        (tokens * SAME_BIT).ceil(),
    );
    if let Some(entries) = entries(from, variant, sent) {
        same(
            "entries",
            entries,
            number(&truth["entries"]),
            entries * SAME_BIT,
        );
    }
    if variant.expect == super::catalog::Expect::Leak
        && variant.cause.as_deref() == Some("background")
    {
        same(
            "entries of the background (0 is wrong)",
            1.0,
            number(&truth["entries"]).min(1.0),
            0.0,
        );
    }
    found
}

/// Expected entries of the leaking container, if they follow from the requests sent.
fn entries(from: &Service, variant: &Variant, sent: &Value) -> Option<f64> {
    let route = &sent["routes"][variant.route.as_deref()?];
    match (variant.cause.as_deref()?, variant.name.as_str()) {
        // Each worker has its own cache; a subject has several tokens.
        ("token_keyed", "token-cache" | "big-claims") if from.workers == 1 => {
            route["distinct_tokens"].as_f64()
        }
        // Without a container there is nothing to count.
        ("per_request", name) if name != "cycles-no-gc" => {
            let answered = |status: &str| route["statuses"][status].as_f64().unwrap_or(0.0);
            Some(answered("200") + answered("201"))
        }
        _ => None,
    }
}
