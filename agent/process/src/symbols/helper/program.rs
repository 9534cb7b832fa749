//! The program that runs as the helper.

use std::{ffi::OsString, path::PathBuf, sync::OnceLock};

/// The program of the helper: a path and its arguments.
pub(super) static PROGRAM: OnceLock<(PathBuf, Vec<OsString>)> = OnceLock::new();

/// Sets the program that runs as the helper; it must call [`serve_confined`](super::serve_confined). Without it, a
/// thread of this process looks names up: for tests.
pub fn run_as(program: PathBuf, arguments: Vec<OsString>) {
    // The first call wins.
    let _ = PROGRAM.set((program, arguments));
}
