//! The kernel maps shrink: entries of a target are removed when it ends, and stacks without live blocks are removed
//! while it runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::common::compile::{Program, program};
use super::common::http::{free_address, get};
use super::common::process::Process;
use super::common::{ATTACH, CALIBRATED, FINISH, folder, heaptide, kernel, until, watch};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Deadline for two sweeps of the stacks, ten seconds apart, on a busy machine.
const SWEPT: Duration = Duration::from_secs(60);
/// Stacks of one round of `paths.cpp`.
const PATHS: u64 = 4_096;

/// Sizes of a map, as in the kernel's `fdinfo`.
struct Map {
    key: u64,
    value: u64,
    most: u64,
}

/// `STACKS` and `RULES` (`agent-ebpf/src/maps.rs`, `wire/limits.rs`).
const STACKS: Map = Map {
    key: 8,
    value: 272,
    most: 32_768,
};
const RULES: Map = Map {
    key: 16,
    value: 8,
    most: 262_144,
};

impl Map {
    /// Bytes that a process's map of these sizes holds in the kernel (`fdinfo`, `memlock`).
    fn bytes(&self, agent: u32) -> u64 {
        let folder = format!("/proc/{agent}/fdinfo");
        let files = fs::read_dir(&folder).expect("the agent's descriptors");
        for file in files.flatten() {
            // Descriptors come and go.
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u64>().ok()
            };
            let sizes = [
                field("key_size:"),
                field("value_size:"),
                field("max_entries:"),
            ];
            if sizes == [Some(self.key), Some(self.value), Some(self.most)] {
                return field("memlock:").expect("its memory");
            }
        }
        panic!("no map of these sizes in {folder}");
    }

    /// Minimum number of entries. The map without them has `empty` bytes.
    fn entries(&self, agent: u32, empty: u64) -> u64 {
        self.bytes(agent).saturating_sub(empty) / (self.key + self.value + 64)
    }
}

fn paths() -> Process {
    let mut process = Process::start("paths", &mut Command::new(program(Program::Paths)));
    process.line(SOON, |line| line.starts_with("ready"));
    process
}

fn walk(process: &mut Process, how: &str) {
    process.say(how);
    process.line(SOON, |line| line == "done");
}

/// Starts the daemon in mode `trace` and waits until it has loaded and calibrated.
fn daemon(folder: &Path, metrics: std::net::SocketAddr) -> Process {
    let path = folder.join("heaptide.toml");
    let exe = program(Program::Paths).display().to_string();
    let config = format!(
        "[agent]\nmetrics = \"{metrics}\"\nmode = \"trace\"\nscan_interval = \"1s\"\n\
         report_interval = \"1s\"\nprocess_metrics = true\n[[target]]\nname = \"paths\"\nexe = \"{exe}\"\n"
    );
    fs::write(&path, config).expect("the configuration is written");
    let path = path.display().to_string();
    let mut command = heaptide(&["run", "--config", &path]);
    command.env(CALIBRATED.0, CALIBRATED.1);
    let mut agent = Process::start("heaptide", &mut command);
    agent.error_line(ATTACH, |line| line.contains("heaptide is running"));
    agent
}

/// Neither a restart nor the calibration leaves entries of the previous process.
#[test]
fn what_a_target_had_goes_with_it() {
    let Some(_turn) = kernel("what_a_target_had_goes_with_it") else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let mut agent = daemon(folder.path(), metrics);
    let id = agent.id();
    let (stacks, rules) = (STACKS.bytes(id), RULES.bytes(id));
    for round in 0..3 {
        let mut process = paths();
        let label = format!(
            "heaptide_process_info{{target=\"paths\",pid=\"{}\"",
            process.id()
        );
        until(ATTACH, "it is observed", || {
            get(metrics, "/metrics").contains(&label)
        });
        assert!(RULES.entries(id, rules) > 1_000, "round {round}");
        walk(&mut process, "keep 0 64");
        until(SOON, "its stacks are in the map", || {
            STACKS.entries(id, stacks) > PATHS / 2
        });
        process.say("leave");
        process.wait(FINISH);
        until(SOON, "its rules and stacks are removed", || {
            STACKS.bytes(id) <= stacks && RULES.bytes(id) <= rules
        });
    }
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// When the live map becomes full, the target that fills it is sampled, and the others are not.
#[test]
fn what_one_target_holds_costs_others_nothing() {
    // More than half of the live map (`settings::CAPACITY`).
    const MANY: f64 = 160_000.0;
    let Some(_turn) = kernel("what_one_target_holds_costs_others_nothing") else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let mut agent = daemon(folder.path(), metrics);
    let (mut greedy, mut modest) = (paths(), paths());
    let of = |process: &Process, name: &str| {
        let (start, label) = (format!("{name}{{"), format!("pid=\"{}\"", process.id()));
        let text = get(metrics, "/metrics");
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(&start) && line.contains(&label))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    for process in [&greedy, &modest] {
        until(ATTACH, "it is observed", || {
            of(process, "heaptide_process_sampled_out_blocks_total").is_some()
        });
    }
    walk(&mut greedy, &format!("many {MANY}"));
    // Its share is set at the next snapshots.
    std::thread::sleep(Duration::from_secs(8));
    walk(&mut greedy, &format!("many {MANY}"));
    walk(&mut modest, "keep 0 4");
    until(SOON, "the greedy one is sampled", || {
        of(&greedy, "heaptide_process_sampled_out_blocks_total") > Some(MANY / 10.0)
    });
    until(SOON, "the modest one is counted", || {
        of(&modest, "heaptide_process_live_bytes").is_some()
            && of(&modest, "heaptide_process_probe_hits_total") > Some(250.0)
    });
    assert_eq!(
        of(&modest, "heaptide_process_sampled_out_blocks_total"),
        Some(0.0)
    );
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// Stacks of freed blocks are removed. Those of live blocks stay, and are symbolized.
#[test]
fn stacks_without_blocks_go() {
    let Some(_turn) = kernel("stacks_without_blocks_go") else {
        return;
    };
    let mut process = paths();
    let mut watched = watch(process.id(), &[]);
    let id = watched.agent.id();
    let empty = STACKS.bytes(id);
    walk(&mut process, "keep 0 8");
    walk(&mut process, "free 8 64");
    let all = STACKS.entries(id, empty);
    assert!(all > PATHS / 2, "{all} stacks");
    until(SWEPT, "stacks of freed blocks are removed", || {
        STACKS.entries(id, empty) < all / 3
    });
    // A removed stack is added again when a block is allocated there.
    walk(&mut process, "keep 56 64");
    watched.finish();
    let sites = watched.read("sites.json");
    assert_eq!(sites.matches("\"blocks\":16,").count(), 64, "{sites}");
    assert_eq!(sites.matches("inner<").count(), 64, "{sites}");
    assert!(!sites.contains("[unknown]"), "{sites}");
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    assert_eq!(report["health"]["stacks_full"], 0, "{report:#}");
}
