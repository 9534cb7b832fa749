//! `lab/truth` as a target that waits for commands.

use std::process::Command;
use std::time::Duration;

use super::compile::{Malloc, Program, program};
use super::process::Process;

/// A traced run is some hundred times slower per call than an untraced one.
pub(crate) const RUN: Duration = Duration::from_secs(60);

/// Starts the truth program, which then waits for `go`.
pub(crate) fn start(frame_pointers: bool) -> Process {
    start_with(frame_pointers, Malloc::Libc, None)
}

/// The same with another allocator: linked, or preloaded from a library.
pub(crate) fn start_with(frame_pointers: bool, malloc: Malloc, preload: Option<&str>) -> Process {
    let path = program(Program::Truth {
        frame_pointers,
        malloc,
    });
    let mut command = Command::new(path);
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    start_as(&mut command)
}

/// The same with the test's own command.
pub(crate) fn start_as(command: &mut Command) -> Process {
    let mut process = Process::start("truth", command);
    process.line(RUN, |line| line.starts_with("ready "));
    process
}

/// The usual build of it.
pub(crate) fn idle() -> Process {
    start(false)
}

/// Whether an idle target still works. Call it once, because the target is not idle afterwards.
pub(crate) fn is_well(target: &mut Process) -> bool {
    target.say("go");
    target
        .line(RUN, |line| line.starts_with("{\"pid\""))
        .contains("site_malloc")
}
