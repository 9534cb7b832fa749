//! Attribution of memory if one thread serves many requests at once: an Axum service whose handlers await before they
//! allocate, with 64 connections. Each route keeps blocks of its own size. The service's `/truth` has the expected
//! numbers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::common::process::Process;
use super::common::requests::Observer;
use super::common::services::{build, lab_program, truth, truth_of_all};
use super::common::{kernel, skip, until};
use serde_json::Value;

const RUN: Duration = Duration::from_secs(60);
/// Number of blocks after which the load ends.
const ENOUGH: u64 = 6_000;

/// CPU time in ticks of each tokio worker of a process.
fn workers(pid: u32) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let stats = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        // After the name: utime and stime are the 12th and 13th field (proc(5), from state on).
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        if name.contains("tokio") {
            Some(ticks(11)? + ticks(12)?)
        } else {
            None
        }
    });
    stats.collect()
}

#[test]
fn blocks_carry_their_own_requests_route() {
    attributed("blocks_carry_their_own_requests_route", "attribution");
}

/// Tasks that a request starts with `spawn`, a `JoinSet` or `spawn_blocking` belong to it, also after it was
/// answered.
#[test]
fn children_inherit_their_request() {
    attributed("children_inherit_their_request", "children");
}

fn attributed(name: &str, variant: &str) {
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build() {
        return skip(name, &reason);
    }
    let mut command = lab_program("lab-axum");
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--variant",
        variant,
        "--await-ms",
        "2",
    ]);
    // Two workers on any machine.
    let mut service = Process::start("lab-axum", command.env("TOKIO_WORKER_THREADS", "2"));
    let line = service.line(RUN, |line| line.contains("http://"));
    let address: SocketAddr = line
        .rsplit('/')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let observer = Observer::attach(service.id(), "trace", &[]);

    let mut load = lab_program("lab-load");
    load.args(["--target", &address.to_string(), "--closed-loop"]);
    load.args(["--for", "600", "--connections", "64"]);
    load.args(["--fresh", "0.2", "--repeat", "0.8"]);
    let mut load = Process::start("lab-load", &mut load);
    let mut asked = 0;
    until(RUN, "enough is kept", || {
        asked += 1;
        truth(address)["entries"].as_u64() >= Some(ENOUGH)
    });
    load.signal(libc::SIGINT);
    let loaded = load.finished(RUN);
    assert_eq!(loaded.code, Some(0), "{}", loaded.errors);
    let sent: Value = serde_json::from_str(&loaded.output).expect("the load's record");
    let user = "GET /users/{id}";
    let answered = sent["routes"][user]["statuses"]["200"].as_u64();
    let (truth, more) = truth_of_all(address, user, answered.expect("a number"));
    asked += more;
    let (report, lines) = observer.finish();
    let workers = workers(service.id());
    // Threads of `spawn_blocking` have the same name, but hardly any work.
    assert!(
        workers.iter().filter(|&&ticks| ticks > 5).count() == 2,
        "workers: {workers:?}"
    );

    let heads: HashMap<u64, &str> = lines
        .iter()
        .filter_map(|line| line["id"].as_u64().zip(line["head"].as_str()))
        .collect();
    let functions: HashMap<u64, &str> = lines
        .iter()
        .filter_map(|line| line["site"].as_u64().zip(line["function"].as_str()))
        .collect();
    let kept = truth["by_route"].as_object().expect("routes");
    let (mut total, mut right, mut wrong, mut named) = (0, 0, 0, 0);
    for (route, blocks) in kept {
        let size = blocks["block_bytes"].as_f64().expect("a size");
        total += blocks["count"].as_u64().expect("a count");
        let start = route.split('{').next().expect("a route");
        for group in lines.iter().filter(|line| line["blocks"].is_number()) {
            let number = group["blocks"].as_f64().unwrap_or(0.0);
            // One block per request: an average of several sizes belongs to none of them.
            if (group["bytes"].as_f64().unwrap_or(0.0) - size * number).abs() > 0.5 {
                continue;
            }
            let Some(request) = group["request"].as_u64() else {
                continue;
            };
            // The stack has no frame pointers, and some 50 frames of tokio and hyper.
            let site = group["site"].as_u64().and_then(|site| functions.get(&site));
            if site.is_some_and(|function| function.ends_with("keep")) {
                named += number as u64;
            }
            match heads.get(&request) {
                Some(head) if head.starts_with(start) && group["binding"] == "exact" => {
                    right += number as u64;
                }
                head => {
                    wrong += number as u64;
                    eprintln!("{group} of {head:?}, not of {route}");
                }
            }
        }
    }
    eprintln!("{right} of {total} blocks with their own request, {wrong} with another's");
    assert!(total >= ENOUGH, "too few for a comparison: {truth}");
    assert!(right as f64 >= 0.99 * total as f64, "{right} of {total}");
    assert_eq!(wrong, 0);
    assert!(
        named as f64 >= 0.99 * total as f64,
        "{named} of {total} by name"
    );
    // Every request was seen, and no more than were sent, with those for `/truth`. The service cancels requests that
    // are in flight when the load ends, and does not count them.
    let requests = truth["total_requests"].as_u64().expect("a number");
    let seen = report["window"]["requests"].as_u64().expect("a number");
    let sent = sent["requests"].as_u64().expect("a number");
    assert!(
        seen >= requests && seen <= sent + asked,
        "{requests} answered, {seen} seen, {sent} sent"
    );
    assert!(Path::new(report["target"]["exe"].as_str().unwrap_or("")).ends_with("lab-axum"));
}
