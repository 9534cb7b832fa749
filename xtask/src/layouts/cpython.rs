//! The layouts of `CPython`: `cpython.c`, compiled with a version's own headers, prints the file of that version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, root};

/// The folder of the version files.
fn folder() -> PathBuf {
    root().join("agent/runtimes/src/cpython/versions")
}

pub(crate) fn run(versions: &[String], include: &[PathBuf]) -> Result<()> {
    let found = headers(include);
    ensure!(
        !found.is_empty(),
        "there are no internal headers of CPython here"
    );
    for version in versions {
        let known = found.contains_key(version.as_str());
        ensure!(
            known,
            "there are no internal headers of CPython {version} here"
        );
    }
    for (version, headers) in &found {
        if !versions.is_empty() && !versions.contains(version) {
            continue;
        }
        let path = file(version);
        let text = extract(headers)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} from {}", path.display(), headers.display());
    }
    println!(
        "a new version needs its line in {}",
        folder().join("mod.rs").display()
    );
    Ok(())
}

fn file(version: &str) -> PathBuf {
    folder().join(format!("{}.rs", version.replace('.', "_")))
}

/// Folders with headers, including internal ones, by version: given ones, pyenv's, and the system's.
fn headers(named: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    let below = |folder: PathBuf| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
    };
    let pyenv = crate::lab::python::pyenv_versions();
    let pyenv = below(pyenv.unwrap_or_default()).flat_map(|version| below(version.join("include")));
    let system = below(PathBuf::from("/usr/include"));
    let mut found = BTreeMap::new();
    for folder in system.chain(pyenv).chain(named.iter().cloned()) {
        let name = folder.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix("python"));
        let Some(version) = version.filter(|version| version.starts_with("3.")) else {
            continue;
        };
        // 3.7 and earlier have no compatible `_PyRuntime`.
        let minor: Option<u32> = version.get(2..).and_then(|minor| minor.parse().ok());
        if minor.is_some_and(|minor| minor >= 8) && folder.join("internal").is_dir() {
            found.insert(version.to_owned(), folder);
        }
    }
    found
}

/// The version file for these headers.
fn extract(headers: &Path) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let program = scratch.path().join("layout");
    process::run(
        Command::new("cc")
            .args(["-w", "-o"])
            .arg(&program)
            .arg("-I")
            .arg(headers)
            .arg("-I")
            .arg(headers.join("internal"))
            // Debian's `pyconfig.h` includes that of the architecture.
            .arg("-idirafter")
            .arg(headers.join(".."))
            .arg(root().join("xtask/src/layouts/cpython.c")),
    )?;
    let written = scratch.path().join("layout.rs");
    fs::write(&written, process::output(&mut Command::new(&program))?)?;
    process::run(
        Command::new("rustfmt")
            .args(["--edition", "2024", "--config-path"])
            .arg(root().join("rustfmt.toml"))
            .arg(&written),
    )?;
    Ok(fs::read_to_string(&written)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the first line, which has the patch release.
    fn data(text: &str) -> &str {
        text.split_once('\n').map_or("", |(_, rest)| rest)
    }

    #[test]
    fn the_files_are_what_the_headers_say() {
        let found = headers(&[]);
        let mut files = 0;
        for entry in fs::read_dir(folder()).expect("the folder") {
            let path = entry.expect("a file").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let version = stem.unwrap_or_default().replace('_', ".");
            if !version.starts_with("3.") {
                continue;
            }
            files += 1;
            let Some(headers) = found.get(&version) else {
                println!("SKIPPED: there are no internal headers of CPython {version} here");
                continue;
            };
            let text = fs::read_to_string(&path).expect("the file");
            let fresh = extract(headers).expect("the layout");
            assert!(
                data(&text) == data(&fresh),
                "{} is not what {} say: cargo xtask layouts cpython {version}",
                path.display(),
                headers.display()
            );
        }
        assert!(files > 0);
    }
}
