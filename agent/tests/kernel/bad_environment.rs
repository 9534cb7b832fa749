//! Faults of the machine and of clients, tested with the real binary: unusable files, full disks, ports in use,
//! garbage instead of HTTP, kill -9. The exit code is right, nothing stays in the kernel, and the target is unharmed.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use std::time::Duration;

use super::common::http::{Server, throw};
use super::common::leftovers::Held;
use super::common::process::{Process, run};
use super::common::truth::{idle, is_well};
use super::common::{ATTACH, CALIBRATED, FINISH, folder, heaptide, kernel, watch, watch_in};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Exit code of `cli::ExitCode::Usage`.
const USAGE: i32 = 64;

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
    let mut target = idle();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let pid = target.id().to_string();
    let arguments = ["attach", &pid, "--for", "2s", "--metrics", &address];
    let mut agent = Process::start("heaptide", &mut heaptide(&arguments));
    let held = Held::in_the_life_of(&mut agent, ATTACH);
    let result = agent.finished(FINISH);
    assert!(result.code.is_some_and(|code| code != 0), "{result:#?}");
    result.names(&[&address, "in use"]);
    assert!(is_well(&mut target));
    held.goes();
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
    let mut target = idle();
    let pid = target.id().to_string();
    for option in ["--output", "--record", "--html"] {
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
    let mut target = idle();
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
    // One head byte by byte: a read ends in every state of the scanner.
    let mut stream = server.connect();
    for byte in b"GET /slow HTTP/1.1\r\nauthorization:   bEaReR  abc.def.ghi  \r\n\r\n" {
        stream.write_all(&[*byte]).expect("sent");
    }
    assert!(super::common::http::answer(&mut stream).contains("200"));
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

/// A container without the kernel's types and tracefs, and with the few capabilities that probes need. Everything but
/// forks is observed, and a limitation reports that.
#[test]
fn without_types_and_tracefs() {
    let Some(_turn) = kernel("without_types_and_tracefs") else {
        return;
    };
    let folder = folder();
    let (empty, report) = (
        folder.path().join("empty"),
        folder.path().join("report.json"),
    );
    fs::create_dir(&empty).expect("a folder");
    let mut server = Server::start_leaky();
    let traffic = server.traffic();
    // The mounts end with the process.
    let script = "for hidden in /sys/kernel/btf /sys/kernel/tracing /sys/kernel/debug; do \
                  if [ -d $hidden ]; then mount --bind \"$0\" $hidden || exit; fi; done; \
                  exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&empty);
    command.arg(super::common::binary());
    command.args([
        "attach",
        &server.process.id().to_string(),
        "--mode",
        "trace",
    ]);
    command.args(["--for", "4s", "--format", "json", "--output"]);
    let result = run("heaptide", command.arg(&report), ATTACH);
    assert_eq!(result.code, Some(0), "{result:#?}");
    drop(traffic);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(&report).expect("the report")).expect("JSON");
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    assert!(number("/window/requests") > 50, "{report}");
    assert!(number("/memory/live_bytes") > 50_000, "{report}");
    let said = report["target"]["limitations"].to_string();
    assert!(said.contains("forks are not seen: tracefs"), "{said}");
    assert!(server.is_well());
}

#[test]
fn nothing_is_left_behind() {
    let Some(_turn) = kernel("nothing_is_left_behind") else {
        return;
    };
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut target = idle();
        let mut watched = watch_in(target.id(), &[], &[CALIBRATED]);
        assert!(is_well(&mut target));
        let held = Held::by(watched.agent.id());
        assert!(held.is_complete(), "{held:?}");
        watched.agent.signal(signal);
        watched.agent.wait(FINISH);
        held.goes();
        target.say("again");
        target.line(SOON, |line| line.starts_with("{\"pid\""));
        assert!(target.runs());
    }
}
