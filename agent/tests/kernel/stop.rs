//! heaptide ends within three seconds of SIGTERM or SIGINT, in each of these situations: while it starts, while its
//! helper does not answer, while a census is taken, while a client of its metrics hangs.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::common::http::{free_address, get};
use super::common::interpreters::interpreters;
use super::common::leftovers::Held;
use super::common::process::Process;
use super::common::{ATTACH, FINISH, Watched, fixture, folder, heaptide, kernel, until, watch};
use heaptide_process::identity;
use serde_json::Value;

/// Maximum time to end.
const LIMIT: Duration = Duration::from_secs(3);
/// Number of tries. The best one counts, because other processes use the machine too.
const TRIES: u32 = 4;
const SOON: Duration = Duration::from_secs(20);

/// Tries until an end is in time. `one` ends an agent and returns how long that took.
fn ends_in_time(mut one: impl FnMut() -> Duration) {
    let mut all = Vec::new();
    for _ in 0..TRIES {
        all.push(one());
        if all.last().is_some_and(|last| *last <= LIMIT) {
            println!("ended after {all:?}");
            return;
        }
    }
    panic!("never within {LIMIT:?}: {all:?}");
}

/// Sends a signal. Returns how long the end takes.
fn time_to_end(agent: &mut Process, signal: i32) -> Duration {
    let asked = Instant::now();
    agent.signal(signal);
    until(FINISH, "the agent ends", || !agent.runs());
    asked.elapsed()
}

/// `keeps.c`, built.
fn keeps(folder: &Path) -> PathBuf {
    let path = folder.join("keeps");
    let mut gcc = Command::new("gcc");
    gcc.args(["-g", "-O1", "-o"])
        .arg(&path)
        .arg(fixture("programs/keeps.c"));
    assert!(gcc.status().expect("a compiler").success());
    path
}

fn started(path: &Path) -> Process {
    let mut target = Process::start("the target", &mut Command::new(path));
    target.line(SOON, |line| line == "ready");
    target
}

/// Stops the helper that symbolizes addresses before it has answered.
fn stop_helper(agent: u32) {
    let helper = || {
        let children = identity::children(agent);
        children
            .into_iter()
            .find(|child| identity::cmdline(*child).contains("symbolize-helper"))
    };
    let deadline = Instant::now() + SOON;
    let pid = loop {
        if let Some(pid) = helper() {
            break pid;
        }
        assert!(Instant::now() < deadline, "no helper was started");
        thread::sleep(Duration::from_millis(1));
    };
    // SAFETY: a plain system call. The agent reaps the helper only after it has killed it, so the id is still valid.
    unsafe { libc::kill(pid as i32, libc::SIGSTOP) };
    until(SOON, "the helper is stopped", || {
        identity::stat(pid).is_ok_and(|stat| stat.state == b'T')
    });
}

#[test]
fn while_the_helper_does_not_answer() {
    let Some(_turn) = kernel("while_the_helper_does_not_answer") else {
        return;
    };
    let folder = folder();
    let path = keeps(folder.path());
    for signal in [libc::SIGTERM, libc::SIGINT] {
        ends_in_time(|| {
            let target = started(&path);
            let mut watched: Watched = watch(target.id(), &[]);
            stop_helper(watched.agent.id());
            // The agent now waits for the helper, longer than this.
            thread::sleep(Duration::from_millis(300));
            assert!(watched.agent.runs());
            let took = time_to_end(&mut watched.agent, signal);
            let status = watched.agent.wait(FINISH);
            assert_eq!(status.code(), Some(0), "{}", watched.agent.transcript());
            let report: Value =
                serde_json::from_str(&watched.read("report.json")).expect("the report is JSON");
            let said = report["target"]["limitations"].to_string();
            assert!(said.contains("heaptide was asked to end"), "{said}");
            took
        });
    }
}

#[test]
fn while_it_starts() {
    let Some(_turn) = kernel("while_it_starts") else {
        return;
    };
    let folder = folder();
    let target = started(&keeps(folder.path()));
    let pid = target.id().to_string();
    for milliseconds in [10, 100, 400, 1000] {
        ends_in_time(|| {
            let mut agent = Process::start("heaptide", &mut heaptide(&["attach", &pid]));
            thread::sleep(Duration::from_millis(milliseconds));
            let held = Held::by(agent.id());
            let took = time_to_end(&mut agent, libc::SIGTERM);
            held.goes();
            took
        });
    }
}

#[test]
fn while_a_census_is_taken() {
    const NAME: &str = "while_a_census_is_taken";
    /// A heap with more objects than a census can visit within its time limit.
    const SCRIPT: &str = "import time\nall = [[n] for n in range(1500000)]\nprint('ready', flush=True)\n\
         while True:\n  all[0].append(0)\n  time.sleep(0.001)\n";

    let Some(_turn) = kernel(NAME) else { return };
    for python in interpreters(NAME).iter().take(1) {
        let mut command = Command::new(python);
        let mut target = Process::start("python", command.args(["-c", SCRIPT]));
        target.line(SOON, |line| line == "ready");
        ends_in_time(|| {
            let mut watched = watch(target.id(), &["--mode", "watch"]);
            let reads = || {
                let task = format!("/proc/{}/task", watched.agent.id());
                let threads = fs::read_dir(task).expect("the agent's threads");
                threads.flatten().any(|thread| {
                    let read = |name| fs::read_to_string(thread.path().join(name));
                    read("comm").is_ok_and(|comm| comm.starts_with("heap readers"))
                        && read("schedstat").is_ok_and(|text| {
                            let used = text.split(' ').next().and_then(|word| word.parse().ok());
                            used > Some(100_000_000_u64)
                        })
                })
            };
            until(SOON, "a census is being taken", reads);
            time_to_end(&mut watched.agent, libc::SIGTERM)
        });
        assert!(target.runs());
    }
}

/// The daemon, while its helper does not answer and a client has sent an unfinished request.
#[test]
fn the_daemon_while_others_hang() {
    let Some(_turn) = kernel("the_daemon_while_others_hang") else {
        return;
    };
    let folder = folder();
    let path = keeps(folder.path());
    let metrics = free_address();
    let config = folder.path().join("heaptide.toml");
    let text = format!(
        "[agent]\nmetrics = \"{metrics}\"\nmode = \"trace\"\nscan_interval = \"1s\"\n\
         [[target]]\nname = \"keeps\"\nexe = \"{}\"\n",
        path.display()
    );
    fs::write(&config, text).expect("written");
    let config = config.display().to_string();
    ends_in_time(|| {
        let target = started(&path);
        let mut agent = Process::start("heaptide", &mut heaptide(&["run", "--config", &config]));
        agent.error_line(ATTACH, |line| line.contains("heaptide is running"));
        stop_helper(agent.id());
        let mut client = TcpStream::connect(metrics).expect("the server");
        client.write_all(b"GET /metr").expect("sent");
        assert!(get(metrics, "/healthz").contains(" 200 ") && target.id() > 0);
        let held = Held::by(agent.id());
        let took = time_to_end(&mut agent, libc::SIGTERM);
        assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
        held.goes();
        took
    });
}
