//! Which program is run as the helper.

use std::{ffi::OsString, path::PathBuf, sync::OnceLock};

/// The program that is the helper: a path and its arguments.
pub(super) static PROGRAM: OnceLock<(PathBuf, Vec<OsString>)> = OnceLock::new();

/// Names the program that is run as the helper; it must call [`serve_confined`](super::serve_confined). Without it names are
/// looked up in a thread of this process: for tests.
pub fn run_as(program: PathBuf, arguments: Vec<OsString>) {
    // The first one stays.
    let _ = PROGRAM.set((program, arguments));
}
