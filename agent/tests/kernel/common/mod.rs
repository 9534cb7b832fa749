//! Shared by the kernel tests: processes that end with the test, lines with a deadline, builds of the lab's C++
//! programs, and reasons to skip.

pub(crate) mod books;
pub(crate) mod compile;
pub(crate) mod containers;
pub(crate) mod go;
pub(crate) mod http;
pub(crate) mod interpreters;
pub(crate) mod leftovers;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod services;
pub(crate) mod source;
pub(crate) mod truth;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use process::Process;

/// Deadline for the agent to load, verify and attach. The verifier is slow on a busy machine.
pub(crate) const ATTACH: Duration = Duration::from_secs(60);
/// Deadline for its outputs.
pub(crate) const FINISH: Duration = Duration::from_secs(30);

/// An agent that watches a running target.
pub(crate) struct Watched {
    /// The agent.
    pub(crate) agent: Process,
    /// Folder of its files.
    pub(crate) folder: TempDir,
}

/// The agent's binary of this build.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_heaptide"))
}

/// Waits until `done`, with a deadline.
pub(crate) fn until(within: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Makes the agent skip the calibration of probe costs, which takes a part of its start.
const UNCALIBRATED: &str = "HEAPTIDE_UNCALIBRATED";
/// For [`watch_in`]: the agent calibrates, as for users.
pub(crate) const CALIBRATED: (&str, &str) = (UNCALIBRATED, "");

/// `heaptide` with arguments.
pub(crate) fn heaptide<A: AsRef<str>>(arguments: &[A]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments.iter().map(AsRef::as_ref));
    // A developer's environment must not affect the test.
    command.env_remove("RUST_LOG");
    command.env_remove("HEAPTIDE_UPROBES");
    command.env(UNCALIBRATED, "1");
    command
}

/// Attaches to `pid`, in mode `trace` unless `more` has another one, and waits until the probes are attached. The
/// agent writes `report.json` and `sites.json` to the folder.
pub(crate) fn watch(pid: u32, more: &[&str]) -> Watched {
    watch_in(pid, more, &[])
}

/// The same with variables in the agent's environment.
pub(crate) fn watch_in(pid: u32, more: &[&str], variables: &[(&str, &str)]) -> Watched {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (report, sites) = (at("report.json"), at("sites.json"));
    let pid = pid.to_string();
    let mut arguments = vec!["attach", &pid, "--for", "600s"];
    if !more.contains(&"--mode") {
        arguments.extend(["--mode", "trace"]);
    }
    arguments.extend([
        "--format",
        "json",
        "--output",
        &report,
        "--live-sites",
        &sites,
    ]);
    arguments.extend(more);
    let mut command = heaptide(&arguments);
    command.envs(variables.iter().copied());
    let mut agent = Process::start("heaptide", &mut command);
    agent.error_line(ATTACH, |line| line.starts_with("attached to"));
    Watched { agent, folder }
}

impl Watched {
    /// Ends the agent as a user does, and waits for its outputs.
    pub(crate) fn finish(&mut self) {
        self.agent.signal(libc::SIGINT);
        let status = self.agent.wait(FINISH);
        assert_eq!(status.code(), Some(0), "{}", self.agent.transcript());
    }

    /// A file that the agent has written.
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.agent.transcript()))
    }
}

/// A temporary folder that is accessible to other users than root.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("its permissions");
    folder
}

/// A file of the repository's lab.
pub(crate) fn lab(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lab")
        .join(name)
}

/// A file of the tests' own.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Reports that a test is skipped, in the form that `cargo xtask test` collects. It writes to standard error
/// directly, because the test harness captures `eprintln!`.
pub(crate) fn skip(name: &str, reason: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {reason}");
}

/// The turn of a test that uses the kernel.
pub(crate) struct Turn(#[allow(dead_code, reason = "held, not read")] File);

/// Waits for the turn of a test that measures no costs. Other such tests may run at the same time. `None`: the kernel
/// cannot be used, which was reported.
pub(crate) fn kernel(name: &str) -> Option<Turn> {
    turn(name, libc::LOCK_SH)
}

/// The same for a test that measures costs. No other test that uses the kernel runs at the same time, because it
/// would change the costs.
pub(crate) fn kernel_alone(name: &str) -> Option<Turn> {
    turn(name, libc::LOCK_EX)
}

fn turn(name: &str, kind: i32) -> Option<Turn> {
    if let Some(reason) = obstacle() {
        skip(name, &reason);
        return None;
    }
    // A test that waits to be alone holds the queue, so that new tests do not share the lock before it.
    let _queue = locked("heaptide-kernel-tests.queue", libc::LOCK_EX);
    Some(Turn(locked("heaptide-kernel-tests.lock", kind)))
}

fn locked(name: &str, kind: i32) -> File {
    let file = File::create(std::env::temp_dir().join(name)).expect("the lock file");
    // SAFETY: the descriptor belongs to `file`, which lives across the call.
    let locked = unsafe { libc::flock(file.as_raw_fd(), kind) };
    assert_eq!(locked, 0, "flock: {}", io::Error::last_os_error());
    file
}

fn obstacle() -> Option<String> {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".to_owned());
    }
    let needed = [
        "/sys/bus/event_source/devices/uprobe/type",
        "/sys/kernel/btf/vmlinux",
    ];
    for path in needed {
        if !Path::new(path).exists() {
            return Some(format!("the kernel has no {path}"));
        }
    }
    // BPF_MAP_CREATE of an array with one element: the cheapest test of bpf(2).
    let mut attributes = [0_u32; 32];
    (attributes[0], attributes[1], attributes[2], attributes[3]) = (2, 4, 8, 1);
    // SAFETY: the pointer and length describe `attributes`, which the kernel only reads.
    let map = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            0,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if map < 0 {
        return Some(format!("bpf(2): {}", io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just created and is used nowhere else.
    unsafe { libc::close(map as i32) };
    None
}
