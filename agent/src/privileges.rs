//! Capabilities: heaptide keeps the needed ones, drops all others before it starts a thread, and reports what is not
//! possible without a missing one.

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use tracing::{debug, info};

/// A capability that heaptide uses.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    set: CapabilitySet,
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What is not possible without it; `None`: nothing can be observed.
    pub lost: Option<&'static str>,
    /// `CAP_SYS_ADMIN` includes it.
    by_admin: bool,
}

/// All of them.
pub const NEEDED: [Needed; 5] = [
    Needed {
        set: CapabilitySet::BPF,
        name: "CAP_BPF",
        purpose: "load programs",
        lost: None,
        by_admin: true,
    },
    Needed {
        set: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        purpose: "attach probes",
        lost: None,
        by_admin: true,
    },
    Needed {
        set: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        purpose: "read /proc of other users' processes",
        lost: Some("only processes of this user can be observed"),
        by_admin: false,
    },
    Needed {
        set: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        purpose: "read programs and trace events with restricted access",
        lost: Some(
            "programs and libraries that this user may not read are observed without functions and lines, and \
             children of a process are not followed",
        ),
        by_admin: false,
    },
    Needed {
        set: CapabilitySet::CHECKPOINT_RESTORE,
        name: "CAP_CHECKPOINT_RESTORE",
        purpose: "read deleted files that a process still runs",
        lost: Some("programs and libraries that were replaced on disk are observed without lines"),
        by_admin: true,
    },
];

impl Needed {
    /// Whether the effective set has it, or one that includes it.
    pub fn is_in(&self, effective: u64) -> bool {
        let admin = self.by_admin && effective & CapabilitySet::SYS_ADMIN.bits() != 0;
        admin || effective & self.set.bits() != 0
    }
}

/// What is not possible because of missing capabilities, one line each.
pub fn missing() -> Vec<String> {
    // A process can always read its own.
    let effective = thread::capabilities(None).map_or(u64::MAX, |sets| sets.effective.bits());
    let missing = NEEDED.iter().filter(|needed| !needed.is_in(effective));
    missing
        .filter_map(|needed| Some(format!("{} is missing: {}", needed.name, needed.lost?)))
        .collect()
}

/// Replaces all limitations caused by a missing capability by one line.
pub fn name_once(limitations: &mut Vec<String>) {
    let missing = missing();
    if missing.is_empty() {
        return;
    }
    limitations.retain(|one| {
        let refused = one.contains("Permission denied") || one.contains("not permitted");
        !refused && !missing.contains(one)
    });
    limitations.splice(0..0, missing);
}

/// Additional needs of a command.
#[derive(Clone, Copy, Debug, Default)]
pub struct More<'a> {
    /// The port of the metrics.
    pub port: Option<u16>,
    /// Files that will be written.
    pub files: &'a [&'a Path],
    /// Checks whether the kernel denies something that may need `CAP_SYS_ADMIN`.
    pub refused: Option<fn() -> bool>,
}

/// Drops all capabilities but the needed ones permanently, also for child programs. Called before the first thread is
/// started, because capabilities are per thread.
pub fn keep_needed(more: &More<'_>) -> io::Result<()> {
    let held = thread::capabilities(None)?;
    let mut kept = NEEDED
        .iter()
        .fold(CapabilitySet::empty(), |all, needed| all | needed.set);
    if !held
        .permitted
        .contains(CapabilitySet::BPF | CapabilitySet::PERFMON)
    {
        // It includes those.
        kept |= CapabilitySet::SYS_ADMIN;
    }
    if more.port.is_some_and(|port| (1..1024).contains(&port)) {
        kept |= CapabilitySet::NET_BIND_SERVICE;
    }
    kept &= held.permitted;
    // Only with those for now, to check whether the files can be written.
    let effective = held.permitted & kept;
    set(CapabilitySets { effective, ..held })?;
    if more.refused.is_some_and(|refused| refused()) {
        info!("CAP_SYS_ADMIN is kept, because this kernel wants it for perf events");
        kept |= CapabilitySet::SYS_ADMIN & held.permitted;
    }
    if !more.files.iter().all(|path| is_writable(path)) {
        let writing = CapabilitySet::DAC_OVERRIDE & held.permitted;
        debug!("CAP_DAC_OVERRIDE is kept to write files in a folder of another user");
        kept |= writing;
    }
    // Changing the bounding set needs CAP_SETPCAP. Without it, child programs get only the permitted capabilities,
    // unless they run as root.
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        let effective = kept | CapabilitySet::SETPCAP;
        set(CapabilitySets { effective, ..held })?;
        drop_bounding(kept)?;
    }
    thread::set_no_new_privs(true)?;
    set(CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: held.inheritable & kept,
    })
}

fn set(sets: CapabilitySets) -> io::Result<()> {
    Ok(thread::set_capabilities(None, sets)?)
}

fn drop_bounding(kept: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(one) {
            continue;
        }
        match thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel has no more capabilities.
            Err(rustix::io::Errno::INVAL) => break,
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

/// Whether a file can be written: itself if it is a device, otherwise its folder or the nearest existing one.
fn is_writable(path: &Path) -> bool {
    let special = path
        .metadata()
        .is_ok_and(|found| !found.is_file() && !found.is_dir());
    let mut place = if special { Some(path) } else { path.parent() };
    while let Some(folder) = place {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        match rustix::fs::accessat(CWD, folder, Access::WRITE_OK, AtFlags::EACCESS) {
            Err(rustix::io::Errno::NOENT) => place = folder.parent(),
            done => return done.is_ok(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_known() {
        let missing = |effective: u64| -> Vec<&str> {
            let of = NEEDED.iter().filter(|needed| !needed.is_in(effective));
            of.map(|needed| needed.name).collect()
        };
        assert!(missing(u64::MAX).is_empty());
        assert_eq!(missing(0).len(), NEEDED.len());
        assert_eq!(
            missing(1 << 21),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"],
            "what CAP_SYS_ADMIN does not stand for"
        );
        assert_eq!(
            missing(1 << 39 | 1 << 38 | 1 << 19 | 1 << 2),
            ["CAP_CHECKPOINT_RESTORE"]
        );
    }
}
