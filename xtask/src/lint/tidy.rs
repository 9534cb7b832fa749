//! House rules that no other tool checks.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::process::{command, output, root};

/// Longer files have more than one job, unless they are tables.
const MAX_LINES: usize = 450;
const TABLE: &str = "// tidy: table";

/// The only allowed registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Forbidden strings, split in two so that this file passes: paths of a machine, and settings of a
/// package mirror.
const FORBIDDEN: &[(&str, &str)] = &[
    ("/wo", "rk/"),
    ("replace-", "with ="),
    ("sparse+", "http"),
    ("index-", "url"),
    ("GOPR", "OXY="),
    ("npm_config_", "registry"),
];

pub(crate) fn check() -> Result<()> {
    let mut broken = Vec::new();
    for file in files(&[])? {
        let path = root().join(&file);
        // Tracked but deleted files and binary fixtures have no text.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        check_file(&file, &text, &mut broken);
    }
    if !broken.is_empty() {
        bail!("house rules:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn check_file(file: &str, text: &str, broken: &mut Vec<String>) {
    if has_extension(file, "rs") {
        if !text.starts_with("//!") {
            broken.push(format!("{file}: does not begin with `//!` and its job"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES && !text.contains(TABLE) {
            broken.push(format!("{file}: {lines} lines, more than {MAX_LINES}"));
        }
    }
    for (start, end) in FORBIDDEN {
        let word = format!("{start}{end}");
        if text.contains(&word) {
            broken.push(format!("{file}: has `{word}`"));
        }
    }
    if has_extension(file, "lock") {
        let foreign = text
            .lines()
            .filter(|line| line.starts_with("source = ") && !line.contains(REGISTRY));
        broken.extend(foreign.map(|line| format!("{file}: foreign {line}")));
    }
}

fn has_extension(file: &str, wanted: &str) -> bool {
    std::path::Path::new(file)
        .extension()
        .is_some_and(|extension| extension == wanted)
}

/// Tracked or new files of the repository that match any pattern; all without patterns.
pub(crate) fn files(patterns: &[&str]) -> Result<Vec<String>> {
    let listed = output(
        command("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
            ])
            .args(patterns),
    )
    .context("cannot list the repository's files")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::check_file;

    fn broken(file: &str, text: &str) -> Vec<String> {
        let mut broken = Vec::new();
        check_file(file, text, &mut broken);
        broken
    }

    #[test]
    fn a_source_file_needs_its_job_and_a_length() {
        assert!(broken("a.rs", "//! Job.\nfn main() {}\n").is_empty());
        assert_eq!(broken("a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(
            broken("a.rs", &format!("//! Job.\n{}", "\n".repeat(500))).len(),
            1
        );
        assert!(
            broken(
                "a.rs",
                &format!("//! Job.\n{}\n{}", super::TABLE, "\n".repeat(500))
            )
            .is_empty()
        );
    }

    #[test]
    fn a_lock_file_names_one_registry() {
        let ours = format!("source = \"{}\"\n", super::REGISTRY);
        assert!(broken("Cargo.lock", &ours).is_empty());
        assert_eq!(
            broken("Cargo.lock", "source = \"git+https://example.org/x\"\n").len(),
            1
        );
    }

    #[test]
    fn machine_paths_are_refused() {
        let path = ["/wo", "rk/main"].concat();
        assert_eq!(broken("README.md", &path).len(), 1);
    }
}
