//! What users get wrong and what machines do to them, against the real binary: a clear error or a
//! named limitation, the right exit code, nothing left in the kernel, and the target unharmed.

mod common;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::compile::{Program, program};
use common::http::{Server, throw};
use common::leftovers::Loaded;
use common::process::{Process, run};
use common::{ATTACH, FINISH, folder, heaptide, kernel, skip, watch};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Exit codes of design.md.
const NO_SUCH_PROCESS: i32 = 3;
const USAGE: i32 = 64;
const NOT_PERMITTED: i32 = 77;

/// A target that does nothing until it is told to.
fn target() -> Process {
    let path = program(Program::Truth {
        frame_pointers: false,
    });
    let mut process = Process::start("truth", &mut Command::new(path));
    process.line(SOON, |line| line.starts_with("ready "));
    process
}

fn is_well(target: &mut Process) -> bool {
    target.say("go");
    target
        .line(FINISH, |line| line.starts_with("{\"pid\""))
        .contains("site_malloc")
}

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
    for word in ["0", "-1", "4294967296", "heaptide", ""] {
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
fn target_ends_while_attached() {
    let Some(_turn) = kernel("target_ends_while_attached") else {
        return;
    };
    let mut target = target();
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

/// Every moment of attaching is one in which the target may end.
#[test]
fn target_ends_while_attaching() {
    let Some(_turn) = kernel("target_ends_while_attaching") else {
        return;
    };
    for milliseconds in [0, 20, 100, 300, 1000] {
        let target = target();
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
    let mut target = target();
    // The build folder may be closed to others.
    let folder = folder();
    let copy = folder.path().join("heaptide");
    fs::copy(common::binary(), &copy).expect("a copy of the binary");
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
fn program_of_32_bits() -> Vec<u8> {
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
        result.names(&["32-bit"]); // watched by its page faults, and it says that only these are seen
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

#[test]
fn configuration_that_cannot_be_used() {
    let folder = folder();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let cases = [
        folder.path().join("missing.toml").display().to_string(),
        folder.path().display().to_string(),
        file("garbage.toml", "\u{1}[[[ = not toml"),
        file("unknown.toml", "no_such_key_at_all = 1\n"),
    ];
    for path in &cases {
        for arguments in [
            ["check-config", path].as_slice(),
            &["run", "--config", path],
        ] {
            let result = run("heaptide", &mut heaptide(arguments), SOON);
            assert_eq!(result.code, Some(USAGE), "{arguments:?}: {result:#?}");
            result.names(&[path]);
        }
    }
}

#[test]
fn port_in_use() {
    let Some(_turn) = kernel("port_in_use") else {
        return;
    };
    let before = Loaded::now();
    let mut target = target();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let pid = target.id().to_string();
    let arguments = ["attach", &pid, "--for", "2s", "--metrics", &address];
    let result = run("heaptide", &mut heaptide(&arguments), ATTACH);
    assert!(result.code.is_some_and(|code| code != 0), "{result:#?}");
    result.names(&[&address, "in use"]);
    assert!(is_well(&mut target));
    if let Ok(before) = before {
        before.comes_back();
    }
}

/// A tmpfs without a free byte, unmounted at the end.
struct FullDisk(tempfile::TempDir);

impl FullDisk {
    fn mount() -> Self {
        let folder = folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "full"])
            .arg(folder.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount");
        let mut filler = fs::File::create(folder.path().join("filler")).expect("a file");
        while filler.write_all(&[0; 4096]).is_ok() {}
        Self(folder)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn full_disk() {
    let Some(_turn) = kernel("full_disk") else {
        return;
    };
    let disk = FullDisk::mount();
    let mut target = target();
    let pid = target.id().to_string();
    for option in ["--output", "--record", "--flamegraph", "--pprof"] {
        let path = disk.0.path().join("out").display().to_string();
        let arguments = [
            "attach", &pid, "--for", "2s", "--format", "json", option, &path,
        ];
        let result = run("heaptide", &mut heaptide(&arguments), ATTACH);
        assert!(
            result.code.is_some_and(|code| code != 0),
            "{option}: {result:#?}"
        );
        result.names(&["out", "no space left"]);
    }
    assert!(is_well(&mut target));
}

/// A device is written to, not replaced by a file.
#[test]
fn full_device() {
    let Some(_turn) = kernel("full_device") else {
        return;
    };
    let mut target = target();
    let pid = target.id().to_string();
    let arguments = [
        "attach",
        &pid,
        "--for",
        "2s",
        "--format",
        "json",
        "--output",
        "/dev/full",
    ];
    let result = run("heaptide", &mut heaptide(&arguments), ATTACH);
    assert!(result.code.is_some_and(|code| code != 0), "{result:#?}");
    result.names(&["/dev/full"]);
    let device = fs::metadata("/dev/full").expect("still there");
    assert!(
        device.file_type().is_char_device(),
        "/dev/full was replaced"
    );
    assert!(is_well(&mut target));
}

#[test]
fn garbage_and_gigantic_heads() {
    let Some(_turn) = kernel("garbage_and_gigantic_heads") else {
        return;
    };
    let mut server = Server::start();
    let mut watched = watch(server.process.id(), &[]);
    let head = |name: &str, length: usize| {
        format!("GET / HTTP/1.1\r\n{name}: {}\r\n\r\n", "A".repeat(length)).into_bytes()
    };
    let noise: Vec<u8> = (0..70_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut cases = vec![
        noise,
        vec![0; 100_000],
        b"GET / HTTP/1.1\r\n".repeat(3000),
        b"\r\n\r\n\r\n\r\n".to_vec(),
        b"GET".to_vec(),
        b"GET /\xff\xfe\x00 HTTP/1.1\r\nAuthorization: Bearer \xff\x00\x80\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nAuthorization: Bearer\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nAuthorization:\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(20_000)).into_bytes(),
        b"GET /many HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n".repeat(500),
    ];
    for length in [100, 4096, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 1 << 20] {
        cases.push(head("Authorization: Bearer x", length));
        cases.push(head("X-Long", length));
    }
    for case in &cases {
        throw(&mut server.connect(), case);
    }
    // One head byte by byte: every state of the scanner is left by a read that ends there.
    let mut stream = server.connect();
    for byte in b"GET /slow HTTP/1.1\r\nauthorization:   bEaReR  abc.def.ghi  \r\n\r\n" {
        stream.write_all(&[*byte]).expect("sent");
    }
    assert!(common::http::answer(&mut stream).contains("200"));
    assert!(server.is_well());
    assert!(watched.agent.runs(), "{}", watched.agent.transcript());
    watched.finish();
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    assert!(
        report["window"]["requests"]
            .as_u64()
            .is_some_and(|count| count >= 2),
        "{report:#}"
    );
    assert!(server.is_well());
}

#[test]
fn nothing_is_left_behind() {
    let Some(_turn) = kernel("nothing_is_left_behind") else {
        return;
    };
    let before = match Loaded::now() {
        Ok(before) => before,
        Err(reason) => return skip("nothing_is_left_behind", &reason),
    };
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut target = target();
        let mut watched = watch(target.id(), &[]);
        assert!(
            !before.added().is_empty(),
            "the test does not see what the agent loads"
        );
        assert!(is_well(&mut target));
        watched.agent.signal(signal);
        watched.agent.wait(FINISH);
        before.comes_back();
        target.say("again");
        target.line(SOON, |line| line.starts_with("{\"pid\""));
        assert!(target.runs() && Path::new("/proc").join(target.id().to_string()).exists());
    }
}
