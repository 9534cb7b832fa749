//! A cache of compiled programs for all test programs of this host. They use the same few programs, and compiling one
//! takes longer than most tests of it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Runs `g++` with these arguments, which contain no output, unless it was run before on the same sources. Returns
/// the path of the output.
pub(super) fn compiled(arguments: &[OsString]) -> PathBuf {
    made(arguments, |output| {
        let mut compiler = Command::new("g++");
        compiler.args(arguments).arg("-o").arg(output);
        compiler
    })
}

/// Runs a command, unless it was run before for the same `words` and sources. Returns the path of the output.
pub(super) fn made(words: &[OsString], command: impl FnOnce(&Path) -> Command) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    everything().hash(&mut hasher);
    words.hash(&mut hasher);
    let name = format!("{:016x}", hasher.finish());
    let output = folder().join(&name);
    let lock = File::create(folder().join(name + ".lock")).expect("the lock file");
    // SAFETY: the descriptor belongs to `lock`, which lives until the end.
    let locked = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(locked, 0, "flock: {}", std::io::Error::last_os_error());
    if output.is_file() {
        return output;
    }
    let unfinished = output.with_extension("unfinished");
    let mut command = command(&unfinished);
    let done = command.output();
    let done = done.expect("g++ and binutils are installed (cargo xtask setup)");
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    fs::rename(&unfinished, &output).expect("renamed");
    output
}

/// A hash of the compiler's version and of all sources of programs for tests.
fn everything() -> u64 {
    static HASH: OnceLock<u64> = OnceLock::new();
    *HASH.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        let version = Command::new("g++").arg("--version").output();
        version
            .expect("g++ is installed (cargo xtask setup)")
            .stdout
            .hash(&mut hasher);
        let lab = ["truth", "bench", "requests"].map(crate::common::lab);
        for folder in lab.iter().chain([&crate::common::fixture("programs")]) {
            add(folder, &mut hasher);
        }
        hasher.finish()
    })
}

fn add(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, hasher);
        } else {
            path.hash(hasher);
            fs::read(&path).expect("a source").hash(hasher);
        }
    }
}

/// The folder for outputs. It must belong to this user, so that nobody else can put files there.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        let path = std::env::temp_dir().join(format!("heaptide-test-programs.{user}"));
        // It may be there already.
        let _ = DirBuilder::new().mode(0o700).create(&path);
        let found = fs::symlink_metadata(&path).expect("a folder for compiled programs");
        assert!(
            found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0,
            "{} is another user's",
            path.display()
        );
        path
    })
}
