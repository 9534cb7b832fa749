//! User errors about processes, tested with the real binary: a clear error or a reported limitation, the right exit
//! code, and an unharmed target.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use super::common::compile::{Program, program};
use super::common::process::{Process, run};
use super::common::truth::{idle, is_well};
use super::common::{ATTACH, FINISH, folder, heaptide, kernel, skip, watch};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Exit codes of `cli::ExitCode`.
const NO_SUCH_PROCESS: i32 = 3;
const USAGE: i32 = 64;
const NOT_PERMITTED: i32 = 77;

#[test]
fn no_such_process() {
    let Some(_turn) = kernel("no_such_process") else {
        return;
    };
    let mut gone = Command::new("true").spawn().expect("true");
    let pid = gone.id().to_string();
    gone.wait().expect("waited for: the id is free now");
    let result = run(
        "heaptide",
        &mut heaptide(&["attach", &pid, "--for", "2s"]),
        ATTACH,
    );
    assert_eq!(result.code, Some(NO_SUCH_PROCESS), "{result:#?}");
    result.names(&[&pid]);
}

#[test]
fn no_process_id_at_all() {
    for word in ["0", "-1", "4294967296", ""] {
        let result = run(
            "heaptide",
            &mut heaptide(&["attach", "--for", "2s", "--", word]),
            SOON,
        );
        assert_eq!(result.code, Some(USAGE), "{word:?}: {result:#?}");
        result.names(&[]);
    }
}

#[test]
fn a_name_that_no_process_has() {
    let name = "no-such-program";
    let result = run(
        "heaptide",
        &mut heaptide(&["attach", name, "--for", "2s"]),
        SOON,
    );
    assert_eq!(result.code, Some(NO_SUCH_PROCESS), "{result:#?}");
    result.names(&[name, "heaptide ps"]);
}

#[test]
fn target_ends_while_attached() {
    let Some(_turn) = kernel("target_ends_while_attached") else {
        return;
    };
    let mut target = idle();
    let mut watched = watch(target.id(), &[]);
    target.say("go");
    target.line(FINISH, |line| line.starts_with("{\"pid\""));
    target.say("leave");
    target.wait(SOON);
    let status = watched.agent.wait(FINISH);
    assert_eq!(status.code(), Some(0), "{}", watched.agent.transcript());
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    assert_eq!(report["schema"], "heaptide.report/v1");
    let said = format!("{} {}", report["reason"], report["target"]["limitations"]);
    assert!(
        said.contains("ended"),
        "the report does not say that the target ended: {said}"
    );
}

/// The target may end at any moment of the attach.
#[test]
fn target_ends_while_attaching() {
    let Some(_turn) = kernel("target_ends_while_attaching") else {
        return;
    };
    for milliseconds in [0, 20, 100, 300, 1000] {
        let target = idle();
        let pid = target.id().to_string();
        let mut command = heaptide(&["attach", &pid, "--mode", "trace", "--for", "10s"]);
        let mut agent = Process::start("heaptide", &mut command);
        std::thread::sleep(Duration::from_millis(milliseconds));
        drop(target);
        let code = agent.wait(ATTACH).code();
        assert!(
            [Some(0), Some(NO_SUCH_PROCESS)].contains(&code),
            "{code:?} {}",
            agent.transcript()
        );
    }
}

#[test]
fn without_rights() {
    let Some(_turn) = kernel("without_rights") else {
        return;
    };
    let mut target = idle();
    // The build folder may be closed to others.
    let folder = folder();
    let copy = folder.path().join("heaptide");
    fs::copy(super::common::binary(), &copy).expect("a copy of the binary");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(copy);
    command.args(["attach", &target.id().to_string(), "--for", "2s"]);
    let result = run("setpriv heaptide", &mut command, ATTACH);
    assert_eq!(result.code, Some(NOT_PERMITTED), "{result:#?}");
    result.names(&["CAP_"]);
    assert!(is_well(&mut target));
}

#[test]
fn kernel_thread() {
    let Some(_turn) = kernel("kernel_thread") else {
        return;
    };
    if fs::read_to_string("/proc/2/comm").ok().as_deref() != Some("kthreadd\n") {
        skip("kernel_thread", "process 2 is no kernel thread here");
        return;
    }
    let result = run(
        "heaptide",
        &mut heaptide(&["attach", "2", "--for", "2s"]),
        ATTACH,
    );
    result.refuses(&["kernel thread"]);
}

/// An ELF32 program of nine bytes of code: `loop: mov eax, 29 (pause); int 0x80; jmp loop`.
pub(crate) fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const CODE: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    const HEADERS: u32 = 52 + 32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    // version, entry, program headers, section headers, flags
    for word in [1, BASE + HEADERS, 52, 0, 0] {
        elf.extend(u32::to_le_bytes(word));
    }
    for half in [52_u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let size = HEADERS + CODE.len() as u32;
    // PT_LOAD, offset, address (twice), sizes, read + execute, alignment
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        elf.extend(u32::to_le_bytes(word));
    }
    elf.extend(CODE);
    elf
}

#[test]
fn process_of_32_bits() {
    let Some(_turn) = kernel("process_of_32_bits") else {
        return;
    };
    let folder = folder();
    let path = folder.path().join("small");
    fs::write(&path, program_of_32_bits()).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let mut target = match Process::try_start("32-bit target", &mut Command::new(&path)) {
        Ok(target) => target,
        Err(error) => {
            return skip(
                "process_of_32_bits",
                &format!("the kernel runs none: {error}"),
            );
        }
    };
    let pid = target.id().to_string();
    let result = run(
        "heaptide",
        &mut heaptide(&["attach", &pid, "--for", "2s"]),
        ATTACH,
    );
    if result.code == Some(0) {
        result.names(&["32-bit"]); // Only page faults are observed, and a limitation reports that.
    } else {
        result.refuses(&["32-bit"]);
    }
    assert!(target.runs());
}

#[test]
fn stripped_static_binary() {
    let Some(_turn) = kernel("stripped_static_binary") else {
        return;
    };
    let mut target = Process::start("pairs", &mut Command::new(program(Program::StaticStripped)));
    target.line(SOON, |line| line.starts_with("ready "));
    let pid = target.id().to_string();
    let arguments = [
        "attach", &pid, "--mode", "trace", "--for", "2s", "--format", "json",
    ];
    let result = run("heaptide", &mut heaptide(&arguments), ATTACH);
    assert_eq!(result.code, Some(0), "{result:#?}");
    let report: Value = serde_json::from_str(&result.output).expect("JSON");
    let limitations = report["target"]["limitations"].to_string();
    assert!(
        limitations.contains("allocator"),
        "no limitation names the allocator: {limitations}"
    );
    assert_eq!(report["verdict"], "insufficient_evidence");
    target.say("pairs 1000");
    target.line(SOON, |line| line.contains("ns"));
}
