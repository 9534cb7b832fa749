//! A process whose allocator announces its sampled blocks (`otel_memory` static probes). These probes are used
//! instead of probes on malloc, and blocks have the announced weights.

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
    // Each function allocates 2,000 blocks. Every tenth is sampled with a weight of ten. Then half are freed.
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
    // Only the static probes were hit, not malloc: 400 sampled allocations, 200 frees.
    let hits = report["health"]["probe_hits"].as_u64();
    assert!(hits.is_some_and(|hits| hits <= 700), "{hits:?}");
}
