//! Builds the eBPF programs and puts the object into `OUT_DIR`, where `kernel` includes it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use toolchain::Toolchain;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let agent = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("no CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").context("no OUT_DIR")?);
    let root = agent.parent().context("the agent's folder has no parent")?;
    for watched in ["agent-ebpf", "Cargo.toml", "xtask/src/toolchain.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed={}", toolchain::OVERRIDE);

    let Some(found) = Toolchain::find() else {
        bail!(toolchain::MISSING);
    };
    let target = shared_target(&out)?;
    let status = found
        .cargo(root, &target, "build")
        .status()
        .context("rustup cannot be run")?;
    if !status.success() {
        bail!(
            "building the eBPF programs failed with toolchain {} ({status})",
            found.name
        );
    }
    let object = Toolchain::object(&target);
    std::fs::copy(&object, out.join("heaptide-ebpf"))
        .with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}

/// `target/ebpf`, found from `target/<profile>/build/<package>/out`: one folder for all profiles,
/// so that debug, release and clippy runs share one build.
fn shared_target(out: &Path) -> Result<PathBuf> {
    let build = out
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "build"))
        .context("OUT_DIR is not inside a build folder")?;
    let target = build
        .parent()
        .and_then(Path::parent)
        .context("OUT_DIR is not inside a target folder")?;
    Ok(target.join("ebpf"))
}
