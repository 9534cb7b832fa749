//! A process whose allocator says itself what it samples (`otel_memory` static probes): those are used in
//! place of probes on malloc, and what is seen is what it said, weighted as it said.

use std::process::Command;
use std::time::Duration;

use super::common::books::{Books, differences, of_process};
use super::common::compile::{Program, program};
use super::common::process::Process;
use super::common::{kernel, watch_in};
use serde_json::{Value, json};

const RUN: Duration = Duration::from_secs(30);

#[test]
fn otel_memory_probes_are_used() {
    sampled_by_itself("otel_memory_probes_are_used", &[]);
}

/// As on kernels without uprobe multi-links.
#[test]
fn otel_memory_probes_by_perf_events() {
    let variables = [("HEAPTIDE_UPROBES", "perf")];
    sampled_by_itself("otel_memory_probes_by_perf_events", &variables);
}

fn sampled_by_itself(name: &str, variables: &[(&str, &str)]) {
    let Some(_turn) = kernel(name) else {
        return;
    };
    let mut command = Command::new(program(Program::OtelMemory));
    let mut target = Process::start("otel_memory", &mut command);
    target.line(RUN, |line| line.starts_with("ready "));
    let mut watched = watch_in(target.id(), &[], variables);
    for word in ["go", "half"] {
        target.say(word);
        target.line(RUN, |line| line == "done");
    }
    watched.finish();
    // Of each function 2,000 blocks, every tenth chosen for ten; then half are freed.
    let books: Books = serde_json::from_value(json!({
        "pid": target.id(),
        "sites": [
            { "function": "keep_names", "kind": "heap", "bytes": 48_000, "blocks": 1_000 },
            { "function": "keep_records", "kind": "heap", "bytes": 1_000_000, "blocks": 1_000 },
        ],
    }))
    .expect("books");
    let seen = of_process(&watched.read("sites.json"), target.id());
    let wrong = differences(&books, &seen);
    assert!(wrong.is_empty(), "{wrong}\n{}", watched.agent.transcript());

    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("otel_memory"), "{said}");
    // Only the probes were hit, not malloc: 400 chosen, 200 freed.
    let hits = report["health"]["probe_hits"].as_u64();
    assert!(hits.is_some_and(|hits| hits <= 700), "{hits:?}");
}
