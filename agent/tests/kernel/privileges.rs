//! Capabilities: an agent that runs as root keeps few of them. If some are missing, the agent reports the consequence
//! once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use super::common::http::{Server, free_address, get};
use super::common::process::{Process, run};
use super::common::{ATTACH, CALIBRATED, FINISH, binary, folder, heaptide, kernel, until, watch};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_PERFMON`, `CAP_BPF`, `CAP_CHECKPOINT_RESTORE`.
const KEPT: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39 | 1 << 40;

/// The capability sets of all threads of a process.
fn rights(pid: u32) -> Vec<(String, u64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let mut rights = Vec::new();
    for thread in threads.flatten() {
        // Threads come and go.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let bits = status.lines().find_map(|line| {
                let bits = line.strip_prefix(set)?.strip_prefix(':')?;
                u64::from_str_radix(bits.trim(), 16).ok()
            });
            rights.extend(bits.map(|bits| (set.to_owned(), bits)));
        }
        assert!(
            status.is_empty() || status.contains("NoNewPrivs:\t1"),
            "{status}"
        );
    }
    rights
}

fn assert_few(pid: u32) {
    let rights = rights(pid);
    assert!(rights.len() >= 10, "at least two threads: {rights:?}");
    for (set, bits) in &rights {
        assert_eq!(bits & !KEPT, 0, "{set} of {pid}: {bits:x}");
    }
}

/// The remaining capabilities suffice for memory by line, requests, and the agent's own cost.
#[test]
fn few_rights_are_kept_and_suffice() {
    let Some(_turn) = kernel("few_rights_are_kept_and_suffice") else {
        return;
    };
    let server = Server::start_leaky();
    let mut watched = watch(server.process.id(), &[]);
    let traffic = server.traffic();
    until(SOON, "there are requests", || traffic.answered() > 300);
    assert_few(watched.agent.id());
    drop(traffic);
    watched.finish();
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let said = report["target"]["limitations"].to_string();
    for word in ["ermi", "CAP_", "not seen", "not read"] {
        assert!(!said.contains(word), "{said}");
    }
    assert!(
        report["window"]["requests"].as_u64() > Some(200),
        "{report:#}"
    );
    assert!(
        report["health"]["probe_seconds"].as_f64() > Some(0.0),
        "{report:#}"
    );
    let sites = watched.read("sites.json");
    assert!(sites.contains("tiny_http.cpp"), "{sites}");
}

#[test]
fn the_daemon_keeps_few_rights() {
    let Some(_turn) = kernel("the_daemon_keeps_few_rights") else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let server = Server::start_leaky();
    let state = folder.path().join("state/heaptide.json");
    let config = format!(
        "[agent]\nmetrics = \"{metrics}\"\nmode = \"trace\"\nscan_interval = \"1s\"\nreport_interval = \"1s\"\n\
         state = \"{}\"\n[[target]]\nname = \"tiny\"\npid = {}\n",
        state.display(),
        server.process.id()
    );
    let path = folder.path().join("heaptide.toml");
    fs::write(&path, config).expect("the configuration is written");
    let path = path.display().to_string();
    let mut command = heaptide(&["run", "--config", &path]);
    command.env(CALIBRATED.0, CALIBRATED.1);
    let mut agent = Process::start("heaptide", &mut command);
    agent.error_line(ATTACH, |line| line.contains("heaptide is running"));
    until(ATTACH, "it is observed", || {
        get(metrics, "/metrics").contains("heaptide_target_processes{target=\"tiny\"} 1")
    });
    assert_few(agent.id());
    let traffic = server.traffic();
    until(SOON, "requests are seen", || {
        get(metrics, "/metrics").contains("route=\"GET /api/data\"")
    });
    drop(traffic);
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// `heaptide` as nobody, with some capabilities.
fn as_nobody(capabilities: &str, arguments: &[&str]) -> (Command, tempfile::TempDir) {
    // The build folder may be closed to others.
    let folder = folder();
    let copy = folder.path().join("heaptide");
    fs::copy(binary(), &copy).expect("a copy of the binary");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(format!("--inh-caps=-all,{capabilities}"))
        .arg(format!("--ambient-caps=-all,{capabilities}"))
        .arg("--")
        .arg(copy)
        .args(arguments);
    (command, folder)
}

#[test]
fn what_is_missing_is_said_once() {
    let Some(_turn) = kernel("what_is_missing_is_said_once") else {
        return;
    };
    let server = Server::start_leaky();
    let pid = server.process.id().to_string();
    let attach = [
        "attach", &pid, "--mode", "trace", "--for", "3s", "--format", "json",
    ];
    let (mut command, _folder) = as_nobody("+bpf,+perfmon,+sys_ptrace", &attach);
    let traffic = server.traffic();
    let result = run("setpriv heaptide", &mut command, ATTACH);
    drop(traffic);
    assert_eq!(result.code, Some(0), "{result:#?}");
    let report: Value = serde_json::from_str(&result.output).expect("JSON");
    let said = report["target"]["limitations"].as_array().expect("a list");
    let naming = |name: &str| {
        let lines = said.iter().filter(|line| line.to_string().contains(name));
        lines.count()
    };
    assert_eq!(naming("CAP_DAC_READ_SEARCH is missing"), 1, "{said:#?}");
    assert!(said.len() <= 6, "{said:#?}");
    assert!(
        report["window"]["requests"].as_u64() > Some(20),
        "{report:#}"
    );

    let (mut command, _folder) = as_nobody("+bpf,+perfmon,+sys_ptrace", &["doctor"]);
    let result = run("setpriv heaptide", &mut command, ATTACH);
    let lines = result.output.lines();
    let lines =
        lines.filter(|line| line.contains("CAP_DAC_READ_SEARCH") && line.contains("missing"));
    assert_eq!(lines.count(), 1, "{result:#?}");
}

/// Where the kernel refuses its programs, what can be read from outside is: the container that grows is named, and the
/// report says what is not seen. A mode that was asked for and needs the programs is an error.
#[test]
fn without_kernel_programs_containers_are_still_judged() {
    let Some(_turn) = kernel("without_kernel_programs_containers_are_still_judged") else {
        return;
    };
    let program = "import time\nkept = {}\nprint('ready', flush=True)\n\
                   while True:\n kept[len(kept)] = bytearray(2000)\n time.sleep(0.01)\n";
    let mut python = Command::new("/usr/bin/python3");
    let mut target = Process::start("python3", python.args(["-c", program]));
    target.line(SOON, |line| line.contains("ready"));
    let pid = target.id().to_string();
    let attach = ["attach", &pid, "--for", "30s", "--format", "json"];
    let (mut command, _folder) = as_nobody("+sys_ptrace", &attach);
    let result = run("setpriv heaptide", &mut command, ATTACH);
    assert_eq!(result.code, Some(0), "{result:#?}");
    let report: Value = serde_json::from_str(&result.output).expect("JSON");
    assert_eq!(report["verdict"], "suspect", "{report:#}");
    let finding = &report["findings"][0];
    assert_eq!(finding["container"]["path"], "__main__.kept", "{finding:#}");
    assert_eq!(finding["cause"], "indeterminate", "{finding:#}");
    assert_eq!(report["target"]["mode"], "outside");
    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("CAP_BPF is missing"), "{said}");
    assert!(said.contains("requests"), "{said}");

    let (mut command, _folder) = as_nobody("+sys_ptrace", &["attach", &pid, "--mode", "trace"]);
    let result = run("setpriv heaptide", &mut command, ATTACH);
    assert_eq!(result.code, Some(77), "{result:#?}");
    assert!(result.errors.contains("CAP_BPF"), "{result:#?}");
}
