//! A Python program with containers whose names and sizes are known.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use heaptide_judge::events::Census;
use heaptide_runtimes::door::HeapReader;
use heaptide_runtimes::inspect;

use super::interpreters::version_of;
use super::process::Process;

/// Deadline for events that take a moment on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// `containers.py` in an interpreter.
pub(crate) struct Target {
    /// The process.
    pub(crate) process: Process,
    /// Reads its objects.
    pub(crate) censuses: Box<dyn HeapReader>,
    /// Version of its interpreter.
    pub(crate) version: String,
}

impl Target {
    /// Starts it.
    pub(crate) fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers.py");
        let mut process = Process::start("containers.py", Command::new(python).arg(script));
        process.line(SOON, |line| line == "ready");
        let target = inspect(process.id()).expect("a live process");
        let version = version_of(python);
        assert_eq!(target.info.runtime, format!("cpython {version}"));
        let censuses = target.runtime.observer.heap_reader();
        let censuses = censuses.expect("a known layout");
        Self {
            process,
            censuses,
            version,
        }
    }

    /// Sends a command.
    pub(crate) fn say(&mut self, line: &str) {
        self.process.say(line);
        let what = line.split(' ').next().unwrap_or(line).to_owned();
        self.process
            .line(SOON, |line| line == format!("done {what}"));
    }

    /// Its answer to a question.
    pub(crate) fn ask(&mut self, what: &str) -> String {
        self.process.say(what);
        let answer = self.process.line(SOON, |line| line.starts_with("weighs "));
        answer.trim_start_matches("weighs ").to_owned()
    }

    /// Takes a census.
    pub(crate) fn census(&mut self) -> Census {
        self.censuses.census().expect("the layout fits")
    }
}
