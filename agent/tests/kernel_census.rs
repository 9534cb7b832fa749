//! The census of real interpreters against containers whose names and sizes are known: while nothing
//! happens, while they grow, and while everything changes.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::process::Process;
use common::skip;
use heaptide::events::Census;
use heaptide::source::python::Censuses;
use heaptide::target::inspect;

const SOON: Duration = Duration::from_secs(20);

/// Debian's interpreter (static, stripped) and those of pyenv (shared libpython).
fn interpreters(test: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let debian = Path::new("/usr/bin/python3");
    if debian.exists() {
        found.push(debian.to_path_buf());
    }
    let homes = [std::env::var_os("PYENV_ROOT").map(PathBuf::from), home()];
    for versions in homes
        .into_iter()
        .flatten()
        .map(|home| home.join("versions"))
    {
        let Ok(entries) = std::fs::read_dir(&versions) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                ["3.11.", "3.12.", "3.13."]
                    .iter()
                    .any(|v| name.starts_with(v))
            })
            .map(|entry| entry.path().join("bin/python3"))
            .filter(|path| path.exists())
            .collect();
        paths.sort();
        found.extend(paths);
        if found.len() > 1 {
            break;
        }
    }
    for minor in ["3.11", "3.12", "3.13"] {
        if !found.iter().any(|path| version_of(path).starts_with(minor)) {
            skip(test, &format!("no CPython {minor} on this machine"));
        }
    }
    found
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"))
}

fn version_of(python: &Path) -> String {
    let output = Command::new(python).arg("-V").output().expect("python -V");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().trim_start_matches("Python ").to_owned()
}

struct Target {
    process: Process,
    censuses: Censuses,
    version: String,
}

impl Target {
    fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers.py");
        let mut process = Process::start("containers.py", Command::new(python).arg(script));
        process.line(SOON, |line| line == "ready");
        let target = inspect(process.id()).expect("a live process");
        let version = version_of(python);
        assert_eq!(target.info.runtime, format!("cpython {version}"));
        let python = target.runtime.python.expect("a known layout");
        let censuses = Censuses::new(process.id(), python);
        Self {
            process,
            censuses,
            version,
        }
    }

    fn say(&mut self, line: &str) {
        self.process.say(line);
        let what = line.split(' ').next().unwrap_or(line).to_owned();
        self.process
            .line(SOON, |line| line == format!("done {what}"));
    }

    fn census(&mut self) -> Census {
        self.censuses.take().expect("the layout fits")
    }
}

fn entries(census: &Census) -> HashMap<(&str, &str), u64> {
    census
        .containers
        .iter()
        .map(|c| ((c.path.as_str(), c.kind.as_str()), c.entries))
        .collect()
}

#[test]
fn containers_have_their_names_and_sizes() {
    for python in interpreters("containers_have_their_names_and_sizes") {
        let mut target = Target::start(&python);
        let begun = Instant::now();
        let census = target.census();
        eprintln!(
            "{}: {} objects in {:?}",
            target.version,
            census.objects,
            begun.elapsed()
        );
        for c in &census.containers {
            eprintln!("   {} {} {} {:?}", c.path, c.kind, c.entries, c.bytes);
        }
        target.say("grow 2000");
        let begun = Instant::now();
        let census = target.census();
        eprintln!("{} objects in {:?}", census.objects, begun.elapsed());
    }
}
