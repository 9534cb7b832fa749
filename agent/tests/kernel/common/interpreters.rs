//! The Python interpreters of this machine that tests run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// Set by `cargo xtask test` without `--all`.
const EVERY_DAY: &str = "HEAPTIDE_EVERY_DAY";

/// Debian's interpreter (static, stripped) and those of pyenv (shared libpython). Reports missing versions as
/// skipped.
pub(crate) fn interpreters(test: &str) -> Vec<PathBuf> {
    let known = heaptide_runtimes::known_versions("CPython");
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
                known
                    .iter()
                    .any(|version| name.starts_with(&format!("{version}.")))
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
    for minor in known {
        let start = format!("{minor}.");
        if !found
            .iter()
            .any(|path| version_of(path).starts_with(&start))
        {
            let why = format!("{test} runs without it: it is not on this machine");
            skip(&format!("CPython {minor}"), &why);
        }
    }
    if std::env::var_os(EVERY_DAY).is_some() {
        every_day(&mut found);
    }
    found
}

/// Keeps Debian's interpreter, and of pyenv's the oldest and the newest version.
fn every_day(found: &mut Vec<PathBuf>) {
    let debian = Path::new("/usr/bin/python3");
    let number = |path: &PathBuf| -> Vec<u32> {
        let version = version_of(path);
        version
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect()
    };
    let of_pyenv = found.iter().filter(|path| *path != debian);
    let mut sorted: Vec<PathBuf> = of_pyenv.cloned().collect();
    sorted.sort_by_key(number);
    let ends = [sorted.first().cloned(), sorted.last().cloned()];
    found.retain(|path| path == debian || ends.contains(&Some(path.clone())));
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"))
}

/// The version that an interpreter prints.
pub(crate) fn version_of(python: &Path) -> String {
    let output = Command::new(python).arg("-V").output().expect("python -V");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().trim_start_matches("Python ").to_owned()
}
