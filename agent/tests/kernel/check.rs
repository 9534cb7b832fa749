//! `heaptide check` with real load commands: what it passes and fails, and that nothing of the load is lost.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::common::http::Server;
use super::common::process::{Finished, Process};
use super::common::{ATTACH, FINISH, folder, heaptide, kernel, until};
use heaptide_process::identity;
use serde_json::Value;

/// Time for a check whose load runs for [`LOAD`].
const CHECK: Duration = Duration::from_secs(120);
/// Seconds of load: more than the 20 that a verdict needs.
const LOAD: &str = "24";

/// Starts a check of a server.
fn start(server: &Server, more: &[&str]) -> Process {
    let pid = server.process.id().to_string();
    let arguments = [&["check", &pid], more].concat();
    Process::start("heaptide", &mut heaptide(&arguments))
}

/// The result of a policy or stage in the `JUnit` file: element and type, `None` for a passed one.
fn result(document: &roxmltree::Document<'_>, name: &str) -> Option<(String, String)> {
    let mut cases = document
        .descendants()
        .filter(|one| one.has_tag_name("testcase"));
    let case = cases.find(|one| one.attribute("name").is_some_and(|it| it.starts_with(name)));
    let case = case.unwrap_or_else(|| panic!("no {name} in {}", document.input_text()));
    let mut failures = case
        .children()
        .filter(|one| one.attribute("type").is_some());
    failures.next().map(|one| {
        let kind = one.attribute("type").unwrap_or_default();
        (one.tag_name().name().to_owned(), kind.to_owned())
    })
}

/// A server that leaks and one that does not, at the same time, with the same policies.
#[test]
fn a_leak_fails_and_a_steady_service_passes() {
    let Some(_turn) = kernel("a_leak_fails_and_a_steady_service_passes") else {
        return;
    };
    let folder = folder();
    let (leaky, steady) = (Server::start_leaky(), Server::start());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let check = |server: &Server, name: &str| {
        let (junit, markdown, report) = (
            at(&format!("{name}.xml")),
            at(&format!("{name}.md")),
            at(&format!("{name}.json")),
        );
        let policies = ["--max-kept-per-token", "256B", "--max-growth", "256KiB/min"];
        let files = [
            "--junit",
            &junit,
            "--markdown",
            &markdown,
            "--report",
            &report,
        ];
        let rest = ["--mode", "trace", "--", "sleep", LOAD];
        start(server, &[&policies[..], &files, &rest].concat())
    };
    let (mut failing, mut passing) = (check(&leaky, "leaky"), check(&steady, "steady"));
    // The load connects when it may begin, as a real one does.
    for agent in [&mut failing, &mut passing] {
        agent.error_line(ATTACH, |line| line.starts_with("checking until"));
    }
    let traffic = (leaky.traffic(), steady.traffic());
    let (failed, passed) = (failing.finished(CHECK), passing.finished(CHECK));
    drop(traffic);

    let read = |name: &str| fs::read_to_string(at(name)).expect(name);
    // A leak of 10 MiB per minute is confirmed only after a part of the host's memory.
    assert_eq!(failed.code, Some(2), "{failed:#?}");
    failed.names(&[
        "FAILED        max-kept-per-token",
        "GET /api/data keeps 2.1 KiB per new token",
        "keep_session",
    ]);
    let text = read("leaky.xml");
    let junit = roxmltree::Document::parse(&text).expect("XML");
    let suspect = Some(("failure".to_owned(), "suspect".to_owned()));
    for policy in ["max-kept-per-token", "max-growth"] {
        assert_eq!(result(&junit, policy), suspect, "{text}");
    }
    for stage in ["observation", "load command"] {
        assert_eq!(result(&junit, stage), None, "{text}");
    }
    assert!(
        text.contains("GET /api/data") && text.contains("tiny_http.cpp:"),
        "{text}"
    );
    let markdown = read("leaky.md");
    assert!(
        markdown.starts_with("### heaptide check: FAILED\n"),
        "{markdown}"
    );
    let report: Value = serde_json::from_str(&read("leaky.json")).expect("JSON");
    assert_eq!(report["verdict"], "suspect", "{report}");

    assert_eq!(passed.code, Some(0), "{passed:#?}");
    passed.names(&[
        "passed        max-kept-per-token",
        "could be kept per new token (95 %)",
    ]);
    let text = read("steady.xml");
    let junit = roxmltree::Document::parse(&text).expect("XML");
    for policy in [
        "max-kept-per-token",
        "max-growth",
        "observation",
        "load command",
    ] {
        assert_eq!(result(&junit, policy), None, "{text}");
    }
}

/// The load has the rights of the caller, its failure is told, and nothing of it is left.
#[test]
fn the_load_is_run_as_without_heaptide_and_its_failure_is_not_lost() {
    let Some(_turn) = kernel("the_load_is_run_as_without_heaptide_and_its_failure_is_not_lost")
    else {
        return;
    };
    let folder = folder();
    let server = Server::start();
    let status = folder.path().join("status").display().to_string();
    let script = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status > \"$0\"; exit 7";
    let finished = start(&server, &["--", "sh", "-c", script, &status]).finished(CHECK);
    assert_eq!(finished.code, Some(5), "{finished:#?}");
    finished.names(&["`sh` exited with 7", "not decided   verdict"]);
    let told = format!("{}{}", finished.output, finished.errors);
    assert!(
        !told.contains("NoNewPrivs"),
        "arguments may be credentials: {told}"
    );
    let own = fs::read_to_string("/proc/self/status").expect("readable");
    for line in fs::read_to_string(&status).expect("written").lines() {
        assert!(own.contains(line), "{line} differs from {own}");
    }

    let missing = start(&server, &["--", "./no-such-load"]).finished(CHECK);
    assert_eq!(missing.code, Some(5), "{missing:#?}");
    missing.names(&["cannot start the load command `./no-such-load`: No such file"]);

    // Before the load begins.
    let ran = folder.path().join("ran").display().to_string();
    let unwritable = ["--junit", "/nowhere/j.xml", "--", "touch", &ran];
    let refused = start(&server, &unwritable).finished(FINISH);
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    refused.names(&["cannot write the JUnit results to /nowhere/j.xml"]);
    fs::metadata(&ran).expect_err("the load was not started");
}

/// A check that is cut short passes nothing.
#[test]
fn what_ends_too_early_is_not_passed() {
    let Some(_turn) = kernel("what_ends_too_early_is_not_passed") else {
        return;
    };
    let generous = [
        "--max-growth",
        "1TiB/s",
        "--",
        "sh",
        "-c",
        "sleep 300 & echo load $!; wait",
    ];
    let load = |check: &mut Process| -> u32 {
        let line = check.line(ATTACH, |line| line.starts_with("load "));
        line[5..].parse().expect("a pid")
    };
    let is_gone = |pid: u32| {
        until(FINISH, "the load has ended", || {
            identity::stat(pid).map_or(true, |stat| stat.dead())
        });
    };
    let ended = |check: &mut Process, code: i32, said: &str| -> Finished {
        let finished = check.finished(FINISH);
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        finished.names(&[said, "was ended, because the check had ended"]);
        finished
    };
    let mut server = Server::start();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut check = start(&server, &generous);
        let pid = load(&mut check);
        thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        check.signal(signal);
        ended(&mut check, 4, "the check was interrupted");
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
        is_gone(pid);
        assert!(server.is_well());
    }
    let mut check = start(&server, &generous);
    let pid = load(&mut check);
    drop(server);
    ended(&mut check, 3, "ended before the check did");
    is_gone(pid);
}
