//! Installs Debian packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{as_root, on_path, run, succeeds};

/// Whether apt knows a package, after an update if necessary.
pub(crate) fn is_packaged(package: &str) -> bool {
    let known = || succeeds(Command::new("apt-cache").args(["show", package]));
    on_path("apt-cache").is_some() && (known() || (update().is_ok() && known()))
}

/// Updates the package lists.
pub(crate) fn update() -> Result<()> {
    run(as_root("apt-get").args(["update", "--quiet"]))
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if on_path("apt-get").is_none() {
        bail!(
            "install these with your system's package manager: {}",
            packages.join(" ")
        );
    }
    eprintln!("setup: installing {}", packages.join(" "));
    update()?;
    run(as_root("env")
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "--quiet",
            "--yes",
        ])
        .arg("--no-install-recommends")
        .args(packages))
}
