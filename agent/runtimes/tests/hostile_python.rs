//! Processes that pretend to be `CPython` or exceed limits: each census stays within its budget of time and memory, and
//! other processes are still read.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heaptide_judge::events::Census;
use heaptide_runtimes::door::{HeapReader, ReadError};
use heaptide_runtimes::inspect;
use heaptide_runtimes::readers::{HeapReading, Readers};
use tempfile::TempDir;

/// Maximum time of a census: one second, half a second for names, and a margin for a busy machine.
const TIME: Duration = Duration::from_secs(3);
/// Maximum memory that it adds to the reader's.
const MEMORY: u64 = 64 << 20;

/// Serialises the tests, because they measure memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    /// Starts it and waits for its first line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        assert!(
            read.is_ok_and(|bytes| bytes > 0),
            "it says that it is there"
        );
        Self(child)
    }

    fn reader(&self) -> Box<dyn HeapReader> {
        let target = inspect(self.0.id()).expect("a live process");
        let reader = target.runtime.observer.heap_reader();
        reader.unwrap_or_else(|| panic!("{} is read", target.info.runtime))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program that pretends to be `CPython` 3.12.1.
struct Fake {
    _folder: TempDir,
    program: PathBuf,
}

impl Fake {
    fn build() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fake_cpython.c");
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("python3.12");
        let built = Command::new("cc")
            .args(["-O1", "-w", "-rdynamic", "-o"])
            .arg(&program)
            .arg(source)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "a C compiler");
        Self {
            _folder: folder,
            program,
        }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        Process::start(Command::new(&self.program).args(arguments))
    }
}

/// Kilobytes that `/proc/self/status` has by a name.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("of this process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// The census, its time and its memory.
fn measured(reader: &mut dyn HeapReader) -> (Result<Census, ReadError>, Duration, u64) {
    // Resets the peak (proc(5)).
    fs::write("/proc/self/clear_refs", "5").expect("its own peak");
    let before = status("VmRSS");
    let begun = Instant::now();
    let census = reader.census();
    let took = begun.elapsed();
    let needed = status("VmHWM").saturating_sub(before) << 10;
    (census, took, needed)
}

#[test]
fn a_census_of_what_only_looks_like_python_ends() {
    let _alone = alone();
    let fake = Fake::build();
    for arguments in [
        ["cyc", "0"],
        ["cyc1", "0"],
        ["types", "64"],
        ["dict", "0"],
        ["gc", "0"],
    ] {
        let process = fake.start(&arguments);
        let mut reader = process.reader();
        for _ in 0..2 {
            let (census, took, needed) = measured(reader.as_mut());
            println!("{arguments:?}: {took:?}, {} MiB, {census:?}", needed >> 20);
            assert!(took < TIME, "{arguments:?} took {took:?}");
            assert!(needed < MEMORY, "{arguments:?} needed {needed} bytes");
        }
    }
}

/// Structures that do not match their version give no census.
#[test]
fn structures_of_another_form_are_no_census() {
    let _alone = alone();
    let process = Fake::build().start(&["wrong"]);
    assert_eq!(process.reader().census(), Err(ReadError::Layout));
}

/// A dictionary of 4,000,000 entries is counted without being copied.
#[test]
fn a_great_dictionary_needs_little() {
    let _alone = alone();
    let Some(python) = python() else {
        println!("SKIPPED: there is no python3 here");
        return;
    };
    let code = "held = {n: None for n in range(4_000_000)}\nprint('ready', flush=True)\ninput()";
    let process = Process::start(
        Command::new(python)
            .args(["-c", code])
            .stdin(Stdio::piped()),
    );
    let (census, took, needed) = measured(process.reader().as_mut());
    let census = census.expect("the layout fits");
    let held = census
        .containers
        .iter()
        .find(|one| one.path == "__main__.held");
    assert_eq!(held.map(|one| one.entries), Some(4_000_000), "{census:#?}");
    assert!(took < TIME && !census.cut, "{took:?}");
    assert!(needed < MEMORY, "{needed} bytes");
}

/// Other programs are read beside programs whose censuses exhaust their budget.
#[test]
fn honest_processes_get_theirs() {
    let _alone = alone();
    let Some(python) = python() else {
        println!("SKIPPED: there is no python3 here");
        return;
    };
    let fake = Fake::build();
    let hostile: Vec<Process> = ["cyc", "gc", "dict"]
        .iter()
        .map(|mode| fake.start(&[mode]))
        .collect();
    let code = "held = [None] * 1000\nprint('ready', flush=True)\nwhile True: held.append(None)";
    let code = format!("import time\n{code}; time.sleep(0.01)");
    let honest = Process::start(Command::new(python).args(["-c", &code]));
    let readers = Readers::start().expect("a thread");
    for process in hostile.iter().chain([&honest]) {
        let pid = process.0.id();
        let start = heaptide_process::identity::stat(pid).expect("its start");
        readers.watch(pid, start.start_ticks, process.reader());
    }
    let mut seen = 0;
    let begun = Instant::now();
    while seen < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{seen} censuses");
        for (pid, reading) in readers.readings() {
            if let HeapReading::Census(census) = reading
                && pid == honest.0.id()
            {
                let mut paths = census.containers.iter().map(|one| one.path.as_str());
                assert!(paths.any(|path| path == "__main__.held"), "{census:#?}");
                seen += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Debian's interpreter.
fn python() -> Option<&'static str> {
    let path = "/usr/bin/python3";
    Path::new(path).exists().then_some(path)
}
