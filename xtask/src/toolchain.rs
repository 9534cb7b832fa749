//! Finds and runs the toolchain of the eBPF programs.
//!
//! Compiled twice: as a module of xtask and, by `#[path]`, into `agent/build.rs`, so that `setup`
//! checks for exactly what the build uses.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build's message if there is no toolchain.
pub(crate) const MISSING: &str =
    "no toolchain for the eBPF programs (or no bpf-linker): run `cargo xtask setup`";

/// Name of the rustup toolchain to use, which has priority.
pub(crate) const OVERRIDE: &str = "HEAPTIDE_EBPF_TOOLCHAIN";

/// Name of Debian's compiler when linked into rustup.
pub(crate) const DEBIAN: &str = "heaptide-debian";

/// The target triple of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A compiler with library sources, and its linker.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// Its name in rustup.
    pub(crate) name: String,
    /// bpf-linker's path.
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// The first usable one: the one named in the environment, a rustup nightly with rust-src,
    /// Debian's.
    pub(crate) fn find() -> Option<Self> {
        let linker = linker()?;
        let name = compiler()?;
        Some(Self { name, linker })
    }

    /// `cargo <command>` for the eBPF programs. `target_dir` must not be that of the calling cargo,
    /// which is locked.
    pub(crate) fn cargo(&self, root: &Path, target_dir: &Path, command: &str) -> Command {
        let mut cargo = Command::new("rustup");
        // Settings of the calling cargo and its wrappers are for the host.
        for (key, _) in env::vars_os() {
            if is_inherited(&key.to_string_lossy()) {
                cargo.env_remove(key);
            }
        }
        // v3: kernel 5.12 and later; the programs use the result of an atomic add.
        let flags = format!(
            "-C linker={} -C target-cpu=v3 -C debuginfo=2 -C link-arg=--btf",
            self.linker.display()
        );
        cargo
            .current_dir(root)
            // -Z build-std is a nightly option, but Debian's compiler is stable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", flags)
            .args([
                "run",
                &self.name,
                "cargo",
                command,
                "--release",
                "--target",
                TARGET,
            ])
            .args([
                "-Z",
                "build-std=core",
                "-p",
                "heaptide-ebpf",
                "--bin",
                "heaptide-ebpf",
            ])
            .arg("--target-dir")
            .arg(target_dir);
        cargo
    }

    /// The object built by [`Self::cargo`] with `build`.
    pub(crate) fn object(target_dir: &Path) -> PathBuf {
        target_dir
            .join(TARGET)
            .join("release")
            .join("heaptide-ebpf")
    }
}

/// The name of a compiler with library sources.
pub(crate) fn compiler() -> Option<String> {
    if let Ok(name) = env::var(OVERRIDE) {
        return Some(name);
    }
    let listed = Command::new("rustup")
        .args(["toolchain", "list"])
        .output()
        .ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = || {
        listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
    };
    let nightlies = names().filter(|name| name.starts_with("nightly"));
    let debian = names().filter(|name| *name == DEBIAN);
    nightlies
        .chain(debian)
        .find(|name| has_sources(name))
        .map(str::to_owned)
}

/// bpf-linker, on PATH or in cargo's folder of installed programs (which may not be on PATH).
pub(crate) fn linker() -> Option<PathBuf> {
    let installed = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(installed)
        .map(|folder| folder.join("bpf-linker"))
        .find(|path| path.is_file())
}

/// Whether a toolchain carries the sources of `core`.
fn has_sources(name: &str) -> bool {
    let Ok(printed) = Command::new("rustup")
        .args(["run", name, "rustc", "--print", "sysroot"])
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    printed.status.success()
        && Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
}

/// Whether a variable was set by the calling cargo, rustup or clippy, or configures them. Locations
/// of registries and caches are kept.
fn is_inherited(key: &str) -> bool {
    let kept = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    let dropped = [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CLIPPY_",
    ];
    dropped.iter().any(|start| key.starts_with(start))
        && !kept.iter().any(|start| key.starts_with(start))
}
