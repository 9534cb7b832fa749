//! Go: requests from probes in net/http, and memory from the collector's own statistics, in every version and build
//! of the lab.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use super::common::go::{self, Service};
use super::common::process::run;
use super::common::requests::{Observer, Seen, answer, ask, get, send_apart};
use super::common::services::{build as build_load, lab_program};
use super::common::{http, kernel, skip, until};
use heaptide_process::plan::PlanOptions;
use serde_json::Value;

const RUN: Duration = Duration::from_secs(60);

/// Programs of the lab. Those of 1.21 are position-independent executables. A request of `/users/7` has the route of their router.
const PROGRAMS: [&str; 4] = [
    "echo-1.21",
    "echo-1.27",
    "nethttp-1.27",
    "nethttp-1.27-stripped",
];
/// The same for the versions in between.
const BETWEEN: [&str; 8] = [
    "nethttp-1.22",
    "echo-1.23",
    "nethttp-1.23",
    "echo-1.24",
    "nethttp-1.24-stripped",
    "nethttp-1.25",
    "echo-1.25-stripped",
    "nethttp-1.26",
];

fn heads(seen: &[Seen]) -> Vec<(&str, Option<u16>)> {
    seen.iter().map(Seen::short).collect()
}

#[test]
fn requests_are_the_ones_that_were_sent() {
    let name = "requests_are_the_ones_that_were_sent";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = go::build() {
        return skip(name, &reason);
    }
    for program in PROGRAMS.into_iter().chain(go::between(&BETWEEN)) {
        eprintln!("{program}");
        let user = if program.starts_with("echo") {
            "GET /users/:id"
        } else {
            "GET /users/{id}"
        };
        let service = Service::start(program, "stateless");
        // A connection from before the attach.
        let mut old = http::connect(service.address);
        assert_eq!(ask(&mut old, &get("/health", &[])), 200);
        let mut observer = Observer::attach(service.process.id(), "watch", &[]);
        assert_eq!(ask(&mut old, &get("/health?with=a-query", &[])), 200);

        // Keep-alive, with tokens that are not JWTs. The requests are rejected, but they are seen.
        let mut stream = http::connect(service.address);
        let bearer = |token: &str| get("/api/data", &[&format!("Authorization: Bearer {token}")]);
        for token in ["one", "two", "one"] {
            assert_eq!(ask(&mut stream, &bearer(token)), 401);
        }
        assert_eq!(ask(&mut stream, &get("/users/7", &[])), 200);
        assert_eq!(ask(&mut stream, &get("/nothing/here", &[])), 404);
        let seen = observer.seen(6);
        assert_eq!(
            heads(&seen),
            [
                ("GET /health", Some(200)),
                ("GET /api/data", Some(401)),
                ("GET /api/data", Some(401)),
                ("GET /api/data", Some(401)),
                (user, Some(200)),
                ("GET /nothing/here", Some(404)),
            ]
        );
        let tokens: Vec<Option<u64>> = seen.iter().map(|one| one.token).collect();
        assert_eq!(tokens, [None, Some(1), Some(2), Some(1), None, None]);
        assert!(
            seen.iter()
                .all(|one| one.binding == "exact" && !one.token_uncertain && !one.again),
            "{seen:#?}"
        );

        // A body, a head in pieces, and three requests in one packet.
        let body = [b'x'; 3000];
        let mut upload =
            b"POST /api/upload HTTP/1.1\r\nHost: lab\r\nContent-Length: 3000\r\n\r\n".to_vec();
        upload.extend(body);
        assert_eq!(ask(&mut stream, &upload), 201);
        send_apart(
            &mut stream,
            &[
                b"GET /api/pro",
                b"file HTTP/1.1\r\nAuthorization: Bearer one\r\nHost: lab\r\n\r\n",
            ],
        );
        assert_eq!(answer(&mut stream), 401);
        // A split between lines: net/http overwrites the lines that it has parsed when it reads more.
        send_apart(
            &mut stream,
            &[
                b"GET /api/profile HTTP/1.1\r\nAuthorization: Bearer two\r\n",
                b"Accept: */*\r\n",
                b"Host: lab\r\n\r\n",
            ],
        );
        assert_eq!(answer(&mut stream), 401);
        // A head that is longer than net/http's buffer, with more lines than a small map holds.
        let many: Vec<String> = (0..20).map(|n| format!("X-{n}: {n:0400}")).collect();
        let mut lines: Vec<&str> = many.iter().map(String::as_str).collect();
        lines.insert(0, "Authorization: Bearer one");
        assert_eq!(ask(&mut stream, &get("/api/profile", &lines)), 401);
        let many = [get("/health", &[]), bearer("three"), get("/users/7", &[])].concat();
        stream.write_all(&many).expect("they are sent");
        assert_eq!(
            [
                answer(&mut stream),
                answer(&mut stream),
                answer(&mut stream)
            ],
            [200, 401, 200]
        );
        let seen = observer.seen(7);
        assert_eq!(
            heads(&seen),
            [
                ("POST /api/upload", Some(201)),
                ("GET /api/profile", Some(401)),
                ("GET /api/profile", Some(401)),
                ("GET /api/profile", Some(401)),
                ("GET /health", Some(200)),
                ("GET /api/data", Some(401)),
                (user, Some(200)),
            ]
        );
        assert_eq!(seen[0].body_bytes, 3000);
        let tokens: Vec<Option<u64>> = seen.iter().map(|one| one.token).collect();
        let (one, two) = (Some(1), Some(2));
        assert_eq!(tokens, [None, one, two, one, None, Some(3), None]);
        assert!(seen.iter().all(|one| !one.token_uncertain), "{seen:#?}");
        let (report, _) = observer.finish();
        assert_eq!(report["health"]["dropped_events"], 0, "{report}");
    }
}

/// Sizes that only the routes' own blocks have, see lab/go/src/lab/store/attribution.go.
const SIZES: [(&str, f64, &str); 4] = [
    ("GET /api/data", 1152.0, "GET /api/data"),
    ("GET /api/profile", 1280.0, "GET /api/profile"),
    ("GET /users/{id}", 1408.0, "GET /users/"),
    ("GET /health", 1536.0, "GET /health"),
];

#[test]
fn blocks_carry_the_request_that_made_them() {
    let name = "blocks_carry_the_request_that_made_them";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build_load().and_then(|()| go::build()) {
        return skip(name, &reason);
    }
    let programs = ["echo-1.21", "echo-1.27-stripped"];
    for program in programs.into_iter().chain(go::between(&BETWEEN)) {
        let service = Service::start(program, "attribution");
        let observer = Observer::attach(service.process.id(), "trace", &[]);
        let mut load = lab_program("lab-load");
        load.args(["--target", &service.address.to_string()]);
        load.args(["--closed-loop", "--for", "4"]);
        load.args(["--connections", "64", "--fresh", "0.2", "--repeat", "0.8"]);
        let loaded = run("lab-load", &mut load, RUN);
        assert_eq!(loaded.code, Some(0), "{}", loaded.errors);
        let truth = service.truth();
        let (_, lines) = observer.finish();
        let requests: HashMap<u64, &str> = lines
            .iter()
            .filter_map(|line| line["id"].as_u64().zip(line["head"].as_str()))
            .collect();
        let (mut right, mut wrong, mut bytes) = (0_u64, 0_u64, 0.0);
        for group in lines.iter().filter(|line| line["blocks"].is_number()) {
            let blocks = group["blocks"].as_f64().unwrap_or(0.0);
            let size = group["bytes"].as_f64().unwrap_or(0.0) / blocks;
            let Some(route) = SIZES.iter().find(|row| (row.1 - size).abs() < 0.01) else {
                continue;
            };
            bytes += group["bytes"].as_f64().unwrap_or(0.0);
            let head = group["request"].as_u64().and_then(|id| requests.get(&id));
            match head {
                Some(head) if head.starts_with(route.2) => right += 1,
                head => {
                    wrong += 1;
                    eprintln!("{group} of {head:?}, not of {}", route.0);
                }
            }
        }
        let kept = truth["entry_bytes"].as_f64().expect("a number");
        eprintln!(
            "{program}: {right} right, {wrong} wrong; {bytes:.0} bytes of {kept:.0} ({:.3})",
            bytes / kept
        );
        assert!(right > 300, "too few for a comparison: {truth}");
        assert!(
            right as f64 >= 0.99 * (right + wrong) as f64,
            "{wrong} wrong"
        );
        assert!((0.85..1.15).contains(&(bytes / kept)), "{bytes} of {kept}");
    }
}

/// The agent's last line with this observation.
fn last<'a>(lines: &'a [Value], name: &str) -> Option<&'a Value> {
    lines.iter().rev().find_map(|line| line.get(name))
}

/// The heap after the collection that `truth` reports.
fn heap_of<'a>(lines: &'a [Value], truth: &Value) -> Option<&'a Value> {
    let mut heaps = lines.iter().filter_map(|line| line.get("heap"));
    heaps.find(|heap| heap["cycles"] == truth["collector"]["cycles"])
}

/// The goroutines that the leak makes wait.
fn waiting(census: &Value) -> Option<&Value> {
    let containers = census["containers"].as_array()?;
    let is_waiting = |one: &&Value| {
        let path = one["path"].as_str();
        path.is_some_and(|path| path.contains("AwaitReply"))
    };
    Some(&containers.iter().find(is_waiting)?["entries"])
}

#[test]
fn marks_and_goroutines_are_what_the_runtime_says() {
    let name = "marks_and_goroutines_are_what_the_runtime_says";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build_load().and_then(|()| go::build()) {
        return skip(name, &reason);
    }
    let programs = ["echo-1.21", "nethttp-1.27"];
    for program in programs.into_iter().chain(go::between(&BETWEEN)) {
        let service = Service::start(program, "goroutine-leak");
        let observer = Observer::attach(service.process.id(), "watch", &[]);
        let mut load = lab_program("lab-load");
        load.args(["--target", &service.address.to_string()]);
        load.args(["--rate", "400", "--for", "6", "--connections", "4"]);
        let loaded = run("lab-load", &mut load, RUN);
        assert_eq!(loaded.code, Some(0), "{}", loaded.errors);
        // The runtime may collect once more before it is idle, and a census comes some time later.
        let mut truth = service.truth();
        until(RUN, "the last census is of all goroutines", || {
            truth = service.truth();
            let lines = observer.lines();
            let waiting = last(&lines, "census").and_then(waiting);
            heap_of(&lines, &truth).is_some() && waiting == Some(&truth["entries"])
        });
        let (_, lines) = observer.finish();
        let collector = &truth["collector"];
        assert!(collector["cycles"].as_u64() > Some(0), "no collection");
        // The runtime may collect once more after its answer, so the heap of the reported cycle is compared.
        let heap = heap_of(&lines, &truth).unwrap_or_else(|| {
            let read = last(&lines, "heap");
            panic!("{program}: no heap of cycle {collector}; the last {read:?}")
        });
        eprintln!("{program}: {heap} {collector}");
        assert_eq!(heap["marked_bytes"], collector["marked_bytes"]);
        let census = last(&lines, "census").expect("a census");
        assert_eq!(waiting(census), Some(&truth["entries"]), "{census}");
    }
}

/// Sends a request with curl by HTTP/2 over TLS. Returns the protocol's version and the status.
fn curl(service: &Service, path: &str, more: &[&str]) -> String {
    let mut command = std::process::Command::new("curl");
    command.args(["--insecure", "--silent", "--http2", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_version} %{http_code}"]);
    command.args(more);
    command.arg(format!("https://{}{path}", service.address));
    run("curl", &mut command, RUN).output
}

#[test]
fn requests_by_http2_are_seen_with_their_tokens() {
    let name = "requests_by_http2_are_seen_with_their_tokens";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = go::build() {
        return skip(name, &reason);
    }
    if std::process::Command::new("curl")
        .arg("--version")
        .output()
        .is_err()
    {
        return skip(name, "curl is not installed");
    }
    let programs = ["nethttp-1.27", "nethttp-1.27-stripped"];
    for program in programs.into_iter().chain(go::between(&[
        "nethttp-1.22",
        "nethttp-1.23",
        "nethttp-1.25-stripped",
        "nethttp-1.26",
    ])) {
        eprintln!("{program}");
        let service = Service::start_with(go::path(program), &["--tls"]);
        let mut observer = Observer::attach(service.process.id(), "watch", &[]);
        let long = format!("Authorization: Bearer {}", "x".repeat(2000));
        assert_eq!(curl(&service, "/health?a=query", &[]), "2 200");
        for token in ["one", "two", "one"] {
            let bearer = format!("Authorization: Bearer {token}");
            assert_eq!(curl(&service, "/api/data", &["--header", &bearer]), "2 401");
        }
        assert_eq!(curl(&service, "/api/data", &["--header", &long]), "2 401");
        assert_eq!(curl(&service, "/api/upload", &["--data", "12345"]), "2 201");
        let seen = observer.seen(6);
        assert_eq!(
            heads(&seen),
            [
                ("GET /health", Some(200)),
                ("GET /api/data", Some(401)),
                ("GET /api/data", Some(401)),
                ("GET /api/data", Some(401)),
                ("GET /api/data", Some(401)),
                ("POST /api/upload", Some(201)),
            ]
        );
        let tokens: Vec<Option<u64>> = seen.iter().map(|one| one.token).collect();
        assert_eq!(tokens, [None, Some(1), Some(2), Some(1), Some(3), None]);
        assert_eq!(seen[5].body_bytes, 5);
        assert!(
            seen.iter()
                .all(|one| one.binding == "exact" && !one.token_uncertain),
            "{seen:#?}"
        );
    }
}

/// In the daemon a window of allocations opens when memory grows. Only probes of allocators are attached then, so all that
/// the blocks of a window need must be among them.
#[test]
fn a_window_brings_all_that_its_blocks_need() {
    let name = "a_window_brings_all_that_its_blocks_need";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = go::build() {
        return skip(name, &reason);
    }
    for program in PROGRAMS {
        let service = Service::start(program, "stateless");
        let target = heaptide_runtimes::inspect(service.process.id()).expect("it runs");
        let plan = |allocations| {
            let options = PlanOptions {
                allocations,
                handlers: Vec::new(),
            };
            target.plan(&options).probes
        };
        let at_the_start = plan(false);
        let known = |name: &str| at_the_start.iter().any(|one| one.program.name == name);
        let more: Vec<_> = plan(true).into_iter().map(|one| one.program).collect();
        let more: Vec<_> = more.into_iter().filter(|one| !known(one.name)).collect();
        let names: Vec<&str> = more.iter().map(|one| one.name).collect();
        assert!(
            names.contains(&"go_read") && names.contains(&"go_next_free"),
            "{program} {names:?}"
        );
        assert!(
            more.iter().all(|one| one.is_allocator()),
            "{program} {names:?}"
        );
    }
}
