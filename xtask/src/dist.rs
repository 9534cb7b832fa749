//! `cargo xtask dist`: a stripped release with licences, README and dashboards, and its checksum.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process::{command, output, root, run as run_command};

const FILES: &[&str] = &[
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "dashboards",
    "docs",
];

pub(crate) fn run() -> Result<()> {
    crate::build::agent(true)?;
    let root = root();
    let name = format!("heaptide-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let dist = root.join("dist");
    let staged = dist.join(&name);
    if staged.exists() {
        fs::remove_dir_all(&staged)
            .with_context(|| format!("cannot clear {}", staged.display()))?;
    }
    fs::create_dir_all(&staged).with_context(|| format!("cannot make {}", staged.display()))?;
    run_command(
        command("strip")
            .arg("-o")
            .arg(staged.join("heaptide"))
            .arg("target/release/heaptide"),
    )?;
    let present = FILES
        .iter()
        .filter(|file| Path::new(&root).join(file).exists());
    run_command(command("cp").arg("-r").args(present).arg(&staged))?;

    let archive = format!("{name}.tar.gz");
    // Fixed owner, order and times: the same inputs give the same archive.
    let mut tar = command("tar");
    tar.current_dir(&dist)
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ])
        .args(["--use-compress-program=gzip -n", "-cf", &archive, &name]);
    run_command(&mut tar)?;
    let sum = output(command("sha256sum").arg(&archive).current_dir(&dist))?;
    fs::write(dist.join(format!("{archive}.sha256")), &sum).context("cannot write the checksum")?;
    fs::remove_dir_all(&staged).with_context(|| format!("cannot remove {}", staged.display()))?;
    println!("dist/{archive}\n{}", sum.trim_end());
    Ok(())
}

/// The host's triple.
fn host() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| Some(line.strip_prefix("host: ")?.to_owned()))
        .context("rustc does not print its host")
}
