//! The agent on the oldest supported kernel, Linux 6.1, which is booted under QEMU in emulation. Its verifier differs
//! from this machine's, and it has no uprobe multi-links.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::common::books::{differences, of_process, summary};
use super::common::compile::{Malloc, Program, program};
use super::common::process::Process;
use super::common::{binary, folder, skip};
use serde_json::Value;

/// The emulation took 80 s on an idle machine, and more than 500 s on a busy one.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The test does not take a turn with the kernel tests, because it loads nothing into this machine's own kernel.
#[test]
fn linux_6_1() {
    let kernel = match (image(), busybox()) {
        (Ok(kernel), Ok(_)) => kernel,
        (Err(reason), _) | (_, Err(reason)) => return skip("linux_6_1", &reason),
    };
    let (said, console) = boot(&kernel);
    let one = |name: &str| match said.get(name).map(Vec::as_slice) {
        Some([text]) => text.as_str(),
        other => panic!("{name}: {other:?}\n{console}"),
    };
    assert!(one("kernel").starts_with("6.1."), "{}", one("kernel"));
    assert_eq!(said["clock"], ["tsc", "tsc"], "{console}");
    assert_eq!(one("doctor"), "0", "{console}");
    assert_eq!(said["exit"], ["0", "0"], "{console}");

    let books = serde_json::from_str(one("books")).expect("the books are JSON");
    let seen = of_process(&said["sites"].join("\n"), pid(&books));
    let books = of_process(one("books"), pid(&books));
    let differences = differences(&books, &seen);
    assert!(
        differences.is_empty(),
        "{}\n{console}",
        summary(&differences, &books, &seen)
    );

    let report: Value = serde_json::from_str(one("report")).expect("the report is JSON");
    let window = &report["window"];
    let counted = ["requests", "new_tokens", "repeat_tokens"].map(|name| window[name].as_u64());
    assert_eq!(counted, [Some(5), Some(2), Some(2)], "{report:#}");
}

fn pid(books: &Value) -> u32 {
    let pid = books["pid"].as_u64().expect("the target's own pid");
    u32::try_from(pid).expect("a pid")
}

/// The kernel that `cargo xtask setup` unpacks.
fn image() -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels/6.1/vmlinuz");
    if !path.is_file() {
        return Err("no kernel 6.1 to boot (cargo xtask setup unpacks Debian's)".to_owned());
    }
    let found = Command::new("qemu-system-x86_64").arg("--version").output();
    found.map_err(|error| format!("qemu-system-x86_64: {error}"))?;
    Ok(path)
}

/// A static busybox, because the guest has no other shell.
fn busybox() -> Result<PathBuf, String> {
    let path = Path::new("/bin/busybox");
    if !path.is_file() {
        return Err("no busybox (cargo xtask setup installs busybox-static)".to_owned());
    }
    Ok(path.to_owned())
}

/// Boots the kernel with a file system of the agent and its targets. Returns its results by name, and its console
/// output.
fn boot(kernel: &Path) -> (HashMap<String, Vec<String>>, String) {
    let folder = folder();
    let archive = folder.path().join("initrd");
    pack(&folder.path().join("root"), &archive);
    let results = folder.path().join("results");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "2048", "-smp", "2"])
        .args(["-display", "none", "-no-reboot", "-monitor", "none"])
        .args([
            "-append",
            "console=ttyS0 panic=-1 quiet tsc=reliable clocksource=tsc",
        ])
        .args(["-serial", "stdio", "-serial"])
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&archive);
    let mut guest = Process::start("qemu", &mut qemu);
    guest.wait(PATIENCE);
    let text = fs::read_to_string(&results).expect("the guest's second serial port");
    let mut said: HashMap<String, Vec<String>> = HashMap::new();
    for line in text.lines() {
        let (name, text) = line.split_once(' ').unwrap_or((line, ""));
        let texts = said.entry(name.to_owned()).or_default();
        texts.push(text.trim_end().to_owned());
    }
    assert!(
        said.contains_key("end"),
        "the guest did not finish:\n{text}\n{}",
        guest.transcript()
    );
    (said, guest.transcript())
}

/// A `cpio` archive of what the guest needs: programs, and the libraries they load.
fn pack(root: &Path, archive: &Path) {
    let programs = [
        ("busybox", busybox().expect("looked for before")),
        ("heaptide", stripped(binary(), root)),
        (
            "truth",
            program(Program::Truth {
                frame_pointers: false,
                malloc: Malloc::Libc,
            }),
        ),
        ("tiny_http", program(Program::TinyHttp)),
    ];
    for (name, path) in &programs {
        for library in libraries(path) {
            let to = root.join(library.strip_prefix("/").expect("an absolute path"));
            copy(&library, &to);
        }
        copy(path, &root.join("bin").join(name));
    }
    let init = root.join("init");
    fs::write(&init, include_str!("../fixtures/guest-init.sh")).expect("/init");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("its permissions");
    // The first line of /init calls busybox by this name.
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("/bin/sh");
    let packed = Command::new("sh")
        .args(["-c", "find . | busybox cpio -o -H newc > \"$0\""])
        .arg(archive)
        .current_dir(root)
        .stderr(Stdio::null())
        .status();
    assert!(packed.expect("busybox cpio").success());
}

/// The agent without its debug information, which would not fit into the guest's memory.
fn stripped(path: &Path, root: &Path) -> PathBuf {
    let to = root.with_file_name("heaptide");
    let mut strip = Command::new("strip");
    let status = strip.arg("-g").arg("-o").arg(&to).arg(path).status();
    assert!(status.expect("strip comes with g++").success());
    to
}

/// The libraries that a program loads, as the dynamic linker finds them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).filter(|p| p.is_file()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder for it");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}
