//! Targets whose files have false contents, end early, change, or are not regular files. The agent keeps running,
//! ends in time, stays small, and reports what it could not read.

use std::ffi::CString;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::process::Process;
use super::common::{ATTACH, FINISH, fixture, folder, heaptide, kernel};
use serde_json::Value;
use tempfile::TempDir;

/// Maximum memory of `attach` with its helper. The documented maximum is 64 MiB, but this build is not optimised, and
/// its own code counts.
const MEMORY: u64 = 96 << 20;
const SOON: Duration = Duration::from_secs(20);

/// The outputs of an attach.
struct Attached {
    report: Value,
    sites: String,
}

impl Attached {
    fn limitations(&self) -> String {
        self.report["target"]["limitations"].to_string()
    }

    /// Whether a site of live memory has this name.
    fn names(&self, text: &str) -> bool {
        self.sites.contains(text)
    }
}

/// Resident bytes of a process and its children.
fn resident(pid: u32) -> u64 {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    };
    let children = heaptide_process::identity::children(pid);
    of(pid) + children.into_iter().map(of).sum::<u64>()
}

/// Attaches for some seconds.
fn attach(target: &Process) -> Attached {
    let folder = folder();
    let report = folder.path().join("report.json");
    let pid = target.id().to_string();
    let sites = folder.path().join("sites.json");
    let (report_at, sites_at) = (report.display().to_string(), sites.display().to_string());
    let arguments = [
        "attach",
        &pid,
        "--mode",
        "trace",
        "--for",
        "2s",
        "--format",
        "json",
        "--output",
        &report_at,
        "--live-sites",
        &sites_at,
    ];
    let mut agent = Process::start("heaptide", &mut heaptide(&arguments));
    let began = Instant::now();
    let mut peak = 0;
    while agent.runs() {
        peak = peak.max(resident(agent.id()));
        assert!(
            began.elapsed() < ATTACH + FINISH,
            "it does not end: {}",
            agent.transcript()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = agent.wait(FINISH);
    assert_eq!(status.code(), Some(0), "{}", agent.transcript());
    let text = fs::read_to_string(&report).expect("a report");
    assert!(peak < MEMORY, "{} MiB: {}", peak >> 20, agent.transcript());
    Attached {
        report: serde_json::from_str(&text).expect("JSON"),
        sites: fs::read_to_string(&sites).expect("the sites"),
    }
}

/// `heaptide ps` names the process and takes little time.
fn list(pid: u32) {
    let before = children_cpu();
    let mut ps = Process::start("heaptide ps", &mut heaptide(&["ps", "--format", "json"]));
    let status = ps.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", ps.transcript());
    // CPU time is compared, because other processes use this machine too.
    let spent = children_cpu().saturating_sub(before);
    assert!(spent < Duration::from_secs(2), "{spent:?}");
    let rows: Value = serde_json::from_str(&ps.output()).expect("JSON");
    let found = rows
        .as_array()
        .expect("rows")
        .iter()
        .any(|row| row["pid"] == pid);
    assert!(found, "{rows}");
}

/// CPU time of the children that were waited for.
fn children_cpu() -> Duration {
    // SAFETY: plain integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn command(program: &str, arguments: &[&str], folder: &Path) {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status();
    assert!(
        status.expect("a compiler and binutils").success(),
        "{program} {arguments:?}"
    );
}

/// `keeps.c`, built in a folder of its own.
fn keeps(flags: &[&str]) -> (TempDir, PathBuf) {
    let folder = folder();
    let source = fixture("programs/keeps.c");
    let mut arguments = vec!["-g", "-O1", "-o", "keeps", source.to_str().expect("a path")];
    arguments.extend(flags);
    command("gcc", &arguments, folder.path());
    let path = folder.path().join("keeps");
    (folder, path)
}

fn started(path: &Path) -> Process {
    let mut target = Process::start("the target", &mut Command::new(path));
    target.line(SOON, |line| line == "ready");
    target
}

/// An ELF file to be changed.
struct Changed {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Changed {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes: fs::read(path).expect("the program"),
        }
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    fn put(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Offset of the header of a section.
    fn header(&self, name: &str) -> usize {
        let elf = heaptide_process::Elf::open(&self.path).expect("an ELF file");
        let offset = elf.section(name).expect(name).offset;
        let headers = self.word(40) as usize;
        let mut all = (headers..self.bytes.len()).step_by(64);
        all.find(|at| self.word(at + 24) == offset).expect(name)
    }

    /// Replaces the contents of a section. They are appended to the file.
    fn replace(&mut self, name: &str, contents: &[u8]) {
        let header = self.header(name);
        let end = self.bytes.len() as u64;
        self.put(header + 24, end);
        self.put(header + 32, contents.len() as u64);
        self.bytes.extend_from_slice(contents);
    }

    /// Moves a section into a hole after the end of the file. It begins with `head`.
    fn into_hole(mut self, name: &str, size: u64, head: &[u8]) {
        let header = self.header(name);
        let end = (self.bytes.len() as u64).next_multiple_of(4096);
        self.put(header + 24, end);
        self.put(header + 32, size / 24 * 24);
        self.write();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(&self.path)
            .expect("open");
        file.seek(SeekFrom::Start(end)).expect("seek");
        file.write_all(head).expect("written");
        file.set_len(end + size).expect("a sparse file");
    }

    fn write(&self) {
        fs::write(&self.path, &self.bytes).expect("written");
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
}

/// The reference for all other tests.
#[test]
fn honest_files_have_lines() {
    let Some(_turn) = kernel("honest_files_have_lines") else {
        return;
    };
    let (_folder, path) = keeps(&[]);
    let target = started(&path);
    let attached = attach(&target);
    assert!(attached.names("keeps.c"), "{}", attached.sites);
    assert!(!attached.limitations().contains("without file and line"));
    list(target.id());
}

/// A program that truncates its own library after its code on command.
fn cutter() -> (TempDir, Process) {
    let folder = folder();
    let source = fixture("programs/cut_library.c");
    let source = source.to_str().expect("a path");
    let library = [
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-fno-stack-protector",
        "-Wl,-z,separate-code",
    ];
    let library = [
        &library[..],
        &["-g", "-O1", "-DLIBRARY", source, "-o", "live.so"],
    ]
    .concat();
    command("gcc", &library, folder.path());
    command(
        "gcc",
        &["-O1", source, "-o", "cut", "-ldl", "-pthread"],
        folder.path(),
    );
    let mut program = Command::new(folder.path().join("cut"));
    let mut target = Process::start("the target", program.arg(folder.path().join("live.so")));
    target.line(SOON, |line| line == "ready");
    (folder, target)
}

/// A process that has mapped the library dies.
#[test]
fn a_library_that_was_cut() {
    let Some(_turn) = kernel("a_library_that_was_cut") else {
        return;
    };
    let (_folder, mut target) = cutter();
    target.say("go");
    target.line(SOON, |line| line == "cut");
    attach(&target);
    list(target.id());
    assert!(target.runs());
}

#[test]
fn a_library_that_is_cut_while_it_is_observed() {
    let Some(_turn) = kernel("a_library_that_is_cut_while_it_is_observed") else {
        return;
    };
    let (_folder, mut target) = cutter();
    let mut watched = super::common::watch(target.id(), &[]);
    std::thread::sleep(Duration::from_secs(2));
    target.say("go");
    target.line(SOON, |line| line == "cut");
    std::thread::sleep(Duration::from_secs(4));
    watched.finish();
    assert!(watched.read("report.json").contains("heaptide.report/v1"));
    assert!(target.runs());
}

/// A compressed section claims to be larger than the memory, or is.
#[test]
fn compressed_sections_that_lie() {
    const MUCH: usize = 512 << 20;

    let Some(_turn) = kernel("compressed_sections_that_lie") else {
        return;
    };
    for (claim, zeros) in [(1_u64 << 62, 100), (MUCH as u64, MUCH), (100, MUCH)] {
        let (_folder, path) = keeps(&["-gz=zlib"]);
        let mut section = Vec::new();
        for word in [1, claim, 1] {
            section.extend_from_slice(&u64::to_le_bytes(word));
        }
        let mut zlib = flate2::write::ZlibEncoder::new(section, flate2::Compression::fast());
        let block = vec![0; 1 << 20];
        let mut left = zeros;
        while left > 0 {
            let some = left.min(block.len());
            zlib.write_all(&block[..some]).expect("compressed");
            left -= some;
        }
        let mut changed = Changed::of(&path);
        changed.replace(".debug_info", &zlib.finish().expect("compressed"));
        changed.write();
        let target = started(&path);
        let attached = attach(&target);
        let said = attached.limitations();
        assert!(said.contains("without file and line"), "{claim}: {said}");
        assert!(attached.names("keep"), "{}", attached.sites);
        list(target.id());
    }
}

/// The debug file is a FIFO, a device, or a sparse file of a terabyte.
#[test]
fn debug_links_to_what_is_no_file() {
    let Some(_turn) = kernel("debug_links_to_what_is_no_file") else {
        return;
    };
    let (folder, path) = keeps(&["-Wl,--build-id=none"]);
    let folder = folder.path();
    command(
        "objcopy",
        &["--only-keep-debug", "keeps", "x.debug"],
        folder,
    );
    command(
        "objcopy",
        &["--strip-debug", "--add-gnu-debuglink=x.debug", "keeps"],
        folder,
    );
    let debug = folder.join("x.debug");
    let target = started(&path);
    assert!(attach(&target).names("keeps.c"));
    let fifo: fn(&Path) = |at| {
        let name = CString::new(at.as_os_str().as_bytes()).expect("a path");
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    };
    let device: fn(&Path) = |at| symlink("/dev/zero", at).expect("a link");
    let hole: fn(&Path) = |at| {
        let file = fs::File::create(at).expect("a file");
        file.set_len(1 << 40).expect("a sparse file");
    };
    for put in [fifo, device, hole] {
        fs::remove_file(&debug).expect("removed");
        put(&debug);
        let attached = attach(&target);
        assert!(
            attached.names("keep") && !attached.names("keeps.c"),
            "{}",
            attached.sites
        );
        let said = attached.limitations();
        assert!(said.contains("where its debug file should be"), "{said}");
        list(target.id());
    }
}

/// Symbols and Go's function table are in a hole of the file: few bytes on the disk, but hundreds of gigabytes to
/// read.
#[test]
fn tables_in_holes() {
    const HOLE: u64 = 256 << 30;

    let Some(_turn) = kernel("tables_in_holes") else {
        return;
    };
    let (_folder, path) = keeps(&[]);
    Changed::of(&path).into_hole(".symtab", HOLE, &[]);
    let target = started(&path);
    let attached = attach(&target);
    let said = attached.limitations();
    assert!(said.contains("symbol table has more than"), "{said}");
    list(target.id());
    drop(target);

    let (_folder, path) = keeps(&[]);
    Changed::of(&path).into_hole(".debug_info", HOLE, &[]);
    let target = started(&path);
    attach(&target);
    list(target.id());
    drop(target);

    let (folder, path) = keeps(&[]);
    fs::write(folder.path().join("table"), [0; 4096]).expect("written");
    command(
        "objcopy",
        &["--add-section", ".gopclntab=table", "keeps"],
        folder.path(),
    );
    // magic and word sizes, then: functions, files, text, names, units, paths, values, functions' table
    let mut head = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    for word in [1_u64 << 34, 1 << 34, 0, 72, 72, 72, 72, 72] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    Changed::of(&path).into_hole(".gopclntab", HOLE, &head);
    let target = started(&path);
    attach(&target);
    list(target.id());
}
