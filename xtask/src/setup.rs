//! `cargo xtask setup`: installs what is missing and prints it.
//!
//! There are no stamp files: it looks for the programs themselves, so it works after an upgrade or a
//! removal, and takes seconds if nothing is missing.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::lab::catalog::Catalog;
use crate::lab::{go, python};
use crate::packages::{install, is_packaged, update};
use crate::process::{command, on_path, output, run as run_command, succeeds};
use crate::toolchain::{self, Toolchain};

/// Programs and their Debian packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("g++", "g++"),
    ("promtool", "prometheus"),
    ("shellcheck", "shellcheck"),
    ("wrk", "wrk"),
    ("bpftool", "bpftool"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
];

/// Libraries and headers for programs of tests, and their Debian packages.
const LIBRARIES: &[(&str, &str)] = &[
    ("lib/x86_64-linux-gnu/libjemalloc.a", "libjemalloc-dev"),
    ("lib/x86_64-linux-gnu/libmimalloc.so", "libmimalloc-dev"),
    (
        "lib/x86_64-linux-gnu/libtcmalloc_minimal.a",
        "libgoogle-perftools-dev",
    ),
    ("lib/x86_64-linux-musl/libc.a", "musl-tools"),
    ("include/x86_64-linux-gnu/sys/sdt.h", "systemtap-sdt-dev"),
    ("bin/h2load", "nghttp2-client"),
];

/// The oldest supported kernel, which a test boots.
const OLDEST_KERNEL: &str = "6.1";

/// Debian's compiler with its library sources.
const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// The LLVM of Debian's compiler, to build a bpf-linker that reads its bitcode.
const DEBIAN_LLVM: &[&str] = &[
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
];
const LLVM_MAJOR: &str = "22";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

const LINKER_VERSION: &str = "0.13.0";

const DENY_VERSION: &str = "0.20.2";

/// What to set up.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also install what the lab's services need.
    #[arg(long)]
    lab: bool,
    /// Also install what only `cargo xtask test --all` needs: all versions of Go and Python.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    everything(arguments.lab)?;
    if arguments.all {
        go::versions().try_for_each(go::prepare)?;
        interpreters(|_| true)?;
    }
    Ok(())
}

/// Installs what is missing; with `lab` also for the lab's services.
pub(crate) fn everything(lab: bool) -> Result<()> {
    tools()?;
    if lab { for_lab() } else { oldest_kernel() }
}

/// Installs what builds and checks need.
pub(crate) fn tools() -> Result<()> {
    programs(
        PROGRAMS
            .iter()
            .map(|&(program, package)| (program.to_owned(), package.to_owned())),
    )?;
    libraries()?;
    deny()?;
    let found = ebpf_toolchain()?;
    eprintln!(
        "setup: the eBPF programs are built by toolchain {} with {}",
        found.name,
        found.linker.display()
    );
    Ok(())
}

/// Installs what the lab's services and the tests need besides.
pub(crate) fn for_lab() -> Result<()> {
    programs(Catalog::load()?.programs())?;
    interpreters(python::is_for_every_day)?;
    go_toolchains()?;
    oldest_kernel()
}

/// Virtual environments of the Python services whose interpreters are installed, for the `wanted` versions.
fn interpreters(wanted: fn(&str) -> bool) -> Result<()> {
    let pythons: BTreeSet<String> = Catalog::load()?
        .services
        .into_iter()
        .filter_map(|service| service.python)
        .collect();
    for python in pythons.into_iter().filter(|python| wanted(python)) {
        match python::missing_interpreter(&python) {
            Some(reason) => eprintln!("setup: {reason}; its services will be skipped"),
            None => python::prepare(&python)?,
        }
    }
    Ok(())
}

/// Installs the packages of missing libraries.
fn libraries() -> Result<()> {
    if on_path("apt-get").is_none() {
        // The tests name the missing library.
        return Ok(());
    }
    let missing: Vec<String> = LIBRARIES
        .iter()
        .filter(|(library, _)| !Path::new("/usr").join(library).exists())
        .map(|&(_, package)| package.to_owned())
        .collect();
    install(&missing)
}

/// The Go toolchains of everyday tests.
fn go_toolchains() -> Result<()> {
    let versions: BTreeSet<String> = Catalog::load()?
        .services
        .into_iter()
        .filter_map(|service| service.go)
        .collect();
    versions
        .iter()
        .filter(|version| go::is_for_every_day(version))
        .try_for_each(|version| go::prepare(version))
}

/// Installs the packages of programs missing from PATH.
fn programs(wanted: impl Iterator<Item = (String, String)>) -> Result<()> {
    let missing: Vec<String> = wanted
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| package)
        .collect();
    install(&missing)
}

/// Finds or installs the toolchain of the eBPF programs: Debian's if packaged, else rustup's.
fn ebpf_toolchain() -> Result<Toolchain> {
    if toolchain::compiler().is_none() {
        if debian_compiler_is_usable() || is_packaged(DEBIAN_COMPILER[0]) {
            link_debian_compiler()?;
        } else if on_path("rustup").is_some() {
            eprintln!("setup: no nightly with rust-src; asking rustup for one");
            run_command(command("rustup").args([
                "toolchain",
                "install",
                "nightly",
                "--profile",
                "minimal",
                "--component",
                "rust-src",
            ]))?;
        }
    }
    let compiler = toolchain::compiler().context(
        "no compiler for the eBPF programs: install rustup, then \
         `rustup toolchain install nightly --component rust-src`",
    )?;
    if toolchain::linker().is_none() {
        install_linker(&compiler)?;
    }
    Toolchain::find().context("bpf-linker was installed but is not found")
}

fn link_debian_compiler() -> Result<()> {
    if !debian_compiler_is_usable() {
        install(&owned(DEBIAN_COMPILER))?;
    }
    if !debian_compiler_is_usable() {
        bail!(
            "/usr/bin/rustc is not the compiler of {} (another one shadows it)",
            DEBIAN_COMPILER[0]
        );
    }
    eprintln!(
        "setup: linking Debian's compiler into rustup as {}",
        toolchain::DEBIAN
    );
    run_command(command("rustup").args(["toolchain", "link", toolchain::DEBIAN, "/usr"]))
}

/// Debian also has older compilers; its LLVM must be the one that bpf-linker is built with.
fn debian_compiler_is_usable() -> bool {
    let sources = Path::new("/usr/lib/rustlib/src/rust/library/core/Cargo.toml");
    let wanted = format!("LLVM version: {LLVM_MAJOR}.");
    sources.is_file()
        && Path::new("/usr/bin/cargo").is_file()
        && output(Command::new("/usr/bin/rustc").arg("-vV"))
            .is_ok_and(|version| version.contains(&wanted))
}

/// bpf-linker must read the bitcode of the compiler, so it is built with the same LLVM.
fn install_linker(compiler: &str) -> Result<()> {
    let mut cargo = crate::process::cargo();
    cargo.args(["install", "bpf-linker", "--version", LINKER_VERSION]);
    if compiler == toolchain::DEBIAN {
        if !Path::new(LLVM_PREFIX).join("bin/llvm-config").is_file()
            || !Path::new(LLVM_PREFIX).join("lib/libPolly.a").is_file()
        {
            install(&owned(DEBIAN_LLVM))?;
        }
        let path = env::var("PATH").unwrap_or_default();
        // Both variables and the PATH are needed, or another LLVM on the machine is used.
        cargo
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX)
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("PATH", format!("{LLVM_PREFIX}/bin:{path}"));
    }
    eprintln!("setup: building bpf-linker {LINKER_VERSION} (about a minute)");
    run_command(&mut cargo)
}

/// Builds cargo-deny unless any version is installed. Without optimisation and network features it
/// takes a minute instead of five, and its work is small.
fn deny() -> Result<()> {
    if succeeds(crate::process::cargo().args(["deny", "--version"])) {
        return Ok(());
    }
    eprintln!("setup: building cargo-deny {DENY_VERSION} (about a minute)");
    run_command(crate::process::cargo().args([
        "install",
        "cargo-deny",
        "--version",
        DENY_VERSION,
        "--locked",
        "--no-default-features",
        "--debug",
        "--config",
        "profile.dev.debug=false",
    ]))
}

/// Unpacks Debian's cloud kernel of that version into `target/kernels`, without installing it. Only
/// Debian 12 may have it; elsewhere the test that boots it is skipped.
fn oldest_kernel() -> Result<()> {
    let folder = crate::process::root()
        .join("target/kernels")
        .join(OLDEST_KERNEL);
    let image = folder.join("vmlinuz");
    if image.is_file() || on_path("apt-get").is_none() {
        return Ok(());
    }
    let pattern = format!("^linux-image-{OLDEST_KERNEL}[.].*-cloud-amd64$");
    let search = || output(Command::new("apt-cache").args(["search", "--names-only", &pattern]));
    let mut found = search()?;
    if found.trim().is_empty() {
        update()?;
        found = search()?;
    }
    let Some(package) = found
        .lines()
        .filter_map(|line| line.split(' ').next())
        .max()
    else {
        eprintln!(
            "setup: no package has Linux {OLDEST_KERNEL}; the test that boots it will be skipped"
        );
        return Ok(());
    };
    eprintln!("setup: unpacking {package} for the test that boots it");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    run_command(
        command("apt-get")
            .args(["download", "--quiet", package])
            .current_dir(&folder),
    )?;
    let unpack =
        "dpkg-deb -x *.deb . && mv boot/vmlinuz-* vmlinuz && rm -rf *.deb boot lib usr etc";
    run_command(command("sh").args(["-c", unpack]).current_dir(&folder))
}

fn owned(packages: &[&str]) -> Vec<String> {
    packages.iter().map(|&package| package.to_owned()).collect()
}
