//! Debian's memleak, for comparison, and the kernel headers it compiles against.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::process::{self, on_path};

/// The script, and a folder of headers if it does not find one by itself.
pub(super) struct Memleak {
    script: PathBuf,
    headers: Option<PathBuf>,
}

impl Memleak {
    /// The command that observes a process. It prints its first list after two seconds; its probes
    /// are attached by then.
    pub(super) fn on(&self, pid: &str) -> Command {
        let mut command = Command::new(&self.script);
        // Otherwise Python buffers its output.
        command.args(["-p", pid, "2"]).env("PYTHONUNBUFFERED", "1");
        if let Some(headers) = &self.headers {
            command.env("BCC_KERNEL_SOURCE", headers);
        }
        command
    }
}

/// Finds both; prints what is missing and returns `None` otherwise. Merged headers go to `folder`.
pub(super) fn find(folder: &Path) -> Result<Option<Memleak>> {
    let Some(script) = on_path("memleak-bpfcc") else {
        eprintln!(
            "memleak-bpfcc is not installed (apt-get install bpfcc-tools linux-headers-amd64)"
        );
        return Ok(None);
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let own = Path::new("/lib/modules").join(release.trim()).join("build");
    if env::var_os("BCC_KERNEL_SOURCE").is_some() || own.exists() {
        return Ok(Some(Memleak {
            script,
            headers: None,
        }));
    }
    let Some((common, flavour)) = headers()? else {
        eprintln!("memleak-bpfcc has no kernel headers (apt-get install linux-headers-amd64)");
        return Ok(None);
    };
    // Debian splits the headers into two packages, but bcc accepts one folder.
    let merged = folder.join("headers");
    fs::create_dir(&merged)?;
    for part in [common, flavour] {
        process::run(
            Command::new("cp")
                .arg("-a")
                .arg(part.join("."))
                .arg(&merged),
        )?;
    }
    Ok(Some(Memleak {
        script,
        headers: Some(merged),
    }))
}

/// The newest pair of `linux-headers-VERSION-common` and `-FLAVOUR`.
fn headers() -> Result<Option<(PathBuf, PathBuf)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/usr/src").context("/usr/src")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for common in names.iter().rev().filter(|name| name.ends_with("-common")) {
        let version = common.trim_end_matches("common");
        let flavour = names
            .iter()
            .find(|name| name.starts_with(version) && *name != common);
        if let Some(flavour) = flavour {
            let path = |name: &str| Path::new("/usr/src").join(name);
            return Ok(Some((path(common), path(flavour))));
        }
    }
    Ok(None)
}
