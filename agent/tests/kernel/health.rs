//! What the daemon says of itself: `/healthz`, `/readyz`, metrics and log, when it observes nothing or not all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use super::bad_input::program_of_32_bits;
use super::common::http::{Server, free_address, get};
use super::common::process::Process;
use super::common::{ATTACH, FINISH, folder, heaptide, kernel, skip, until};

const SOON: Duration = Duration::from_secs(20);

/// A daemon that observes nothing says so, and why: no process matches, one cannot be attached, or there are too many.
#[test]
fn what_is_not_observed_is_said() {
    const NAME: &str = "what_is_not_observed_is_said";
    let Some(_turn) = kernel(NAME) else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let tiny = Server::copy(folder.path());
    let exe = tiny.display();
    let path = folder.path().join("narrow").display().to_string();
    fs::write(&path, program_of_32_bits()).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let narrow = match Process::try_start("narrow", &mut Command::new(&path)) {
        Ok(process) => process,
        Err(error) => return skip(NAME, &format!("the kernel runs no 32-bit program: {error}")),
    };
    let config = format!(
        "[agent]\nmetrics = \"{metrics}\"\nmode = \"trace\"\nscan_interval = \"1s\"\n\
         report_interval = \"1s\"\nmax_processes = 1\n\
         [[target]]\nname = \"narrow\"\nexe = \"{path}\"\n\
         [[target]]\nname = \"absent\"\nexe = \"/no/such/program\"\n\
         [[target]]\nname = \"tiny\"\nexe = \"{exe}\"\n"
    );
    let file = folder.path().join("heaptide.toml");
    fs::write(&file, config).expect("the configuration is written");
    let file = file.display().to_string();
    let mut agent = Process::start("heaptide", &mut heaptide(&["run", "--config", &file]));
    agent.error_line(ATTACH, |line| line.contains("heaptide is running"));
    let status = |path: &str| get(metrics, path);
    let exported = |line: &str| get(metrics, "/metrics").contains(&format!("\n{line}\n"));
    let within = Duration::from_secs(10);
    until(within, "it is unhealthy", || {
        let health = status("/healthz");
        health.contains(" 503 ") && health.contains("32-bit")
    });
    assert!(status("/readyz").contains(" 503 "));
    assert!(exported("heaptide_healthy 0.0") && exported("heaptide_ready 0.0"));
    assert!(exported("heaptide_target_processes{target=\"absent\"} 0.0"));
    let failing =
        "heaptide_target_failing_processes{target=\"narrow\",reason=\"unsupported_process\"} 1.0";
    assert!(exported(failing));
    assert!(get(metrics, "/metrics").contains(
        "heaptide_attach_errors_total{target=\"narrow\",reason=\"unsupported_process\"}"
    ));
    agent.error_line(SOON, |line| {
        line.contains("nothing can be observed") && line.contains("32-bit")
    });

    // No process at all: heaptide works, but is not ready.
    drop(narrow);
    until(SOON, "it works and observes nothing", || {
        let health = status("/healthz");
        health.contains(" 200 ") && health.contains("no process matches narrow, absent, tiny")
    });
    assert!(status("/readyz").contains(" 503 ") && !exported(failing));

    let both = [Server::start_as(&tiny, &[]), Server::start_as(&tiny, &[])];
    until(SOON, "one is observed", || {
        status("/readyz").contains(" 200 ") && exported("heaptide_ready 1.0")
    });
    assert!(exported("heaptide_target_processes{target=\"tiny\"} 1.0"));
    until(SOON, "the other one is left out", || {
        exported("heaptide_target_left_out_processes{target=\"tiny\"} 1.0")
    });
    drop(both);
    until(SOON, "none is left", || {
        exported("heaptide_target_processes{target=\"tiny\"} 0.0") && exported("heaptide_ready 0.0")
    });
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}
