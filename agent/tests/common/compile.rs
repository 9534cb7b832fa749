//! Builds of the lab's C++ programs, each once per test binary.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

/// What is built, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    /// `lab/truth`, with or without frame pointers.
    Truth {
        /// `-fno-omit-frame-pointer`.
        frame_pointers: bool,
    },
    /// `lab/bench/tiny_http.cpp`.
    TinyHttp,
    /// `lab/requests/server.cpp`.
    Requests,
    /// `lab/requests/handlers.cpp`.
    Handlers,
    /// `lab/bench/pairs.cpp`, static and stripped.
    StaticStripped,
}

type Built = (TempDir, HashMap<Program, PathBuf>);

/// The program's path, built now if it was not before. Static things are not dropped, so the folder
/// is handed to the next call of the operating system's cleaner; it holds three small files.
pub(crate) fn program(program: Program) -> PathBuf {
    static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Mutex::new((super::folder(), HashMap::new())));
    let mut built = built
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.1.get(&program) {
        return path.clone();
    }
    let path = built.0.path().join(format!("program{}", built.1.len()));
    build(program, &path);
    built.1.insert(program, path.clone());
    path
}

fn build(program: Program, to: &Path) {
    let mut compiler = Command::new("g++");
    compiler
        .args([
            "-std=c++20",
            "-O2",
            "-g",
            "-Wall",
            "-Wextra",
            "-pthread",
            "-o",
        ])
        .arg(to);
    match program {
        Program::Truth { frame_pointers } => {
            let option = if frame_pointers {
                "-fno-omit-frame-pointer"
            } else {
                "-fomit-frame-pointer"
            };
            compiler.arg(option).args(sources("truth"));
        }
        Program::TinyHttp => {
            compiler.arg(super::lab("bench/tiny_http.cpp"));
        }
        Program::Requests => {
            compiler.arg(super::lab("requests/server.cpp"));
        }
        Program::Handlers => {
            compiler.arg(super::lab("requests/handlers.cpp"));
        }
        Program::StaticStripped => {
            compiler
                .args(["-static", "-s"])
                .arg(super::lab("bench/pairs.cpp"));
        }
    }
    let output = compiler
        .output()
        .expect("g++ is installed (cargo xtask setup)");
    assert!(
        output.status.success(),
        "{program:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(super::lab(folder)).expect("the lab's folder");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cpp"));
    files.sort();
    files
}
