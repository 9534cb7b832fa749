//! Errors of the kernel stage, with advice.

use std::{error::Error as StdError, io};

use thiserror::Error;

/// An error of the kernel stage.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A capability is missing.
    #[error(
        "not permitted: {missing} is missing; run heaptide as root, or give it CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE"
    )]
    NotPermitted {
        /// Name of the capability.
        missing: String,
    },
    /// The kernel lacks a feature.
    #[error("this kernel lacks what heaptide needs: {what}")]
    Unsupported {
        /// The feature, and where it is documented.
        what: String,
    },
    /// A program or the object was rejected.
    #[error("the kernel refused {name}: {why}")]
    Load {
        /// Program.
        name: String,
        /// The kernel's reason, with the verifier's last lines.
        why: String,
    },
    /// A probe could not be attached.
    #[error("cannot attach to {symbol} of process {pid}: {why}")]
    Attach {
        /// Function.
        symbol: String,
        /// Process.
        pid: u32,
        /// Reason.
        why: io::Error,
    },
    /// The object lacks something that the agent expects: a build error.
    #[error("the eBPF object has no {what} {name}: rebuild with `cargo xtask build`")]
    Object {
        /// Program or map.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map call failed.
    #[error("map {name}: {why}")]
    Map {
        /// Map.
        name: &'static str,
        /// Reason.
        why: aya::maps::MapError,
    },
    /// A batch read failed.
    #[error("cannot read map {name}: {why}")]
    Read {
        /// Map.
        name: &'static str,
        /// Reason.
        why: io::Error,
    },
}

impl KernelError {
    /// A rejected load, with all causes in one line and the end of the verifier's log.
    pub(super) fn load(name: &str, why: &dyn StdError) -> Self {
        let mut text = String::new();
        let mut cause: Option<&dyn StdError> = Some(why);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&said);
            }
            cause = error.source();
        }
        if text.contains("BTF") && !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Self::Unsupported {
                what:
                    "type information (CONFIG_DEBUG_INFO_BTF: /sys/kernel/btf/vmlinux is missing)"
                        .into(),
            };
        }
        Self::Load {
            name: name.to_owned(),
            why: shortened(text),
        }
    }

    /// A program rejected by a load without aya.
    pub(super) fn refused(name: &str, why: &io::Error, log: &str) -> Self {
        Self::Load {
            name: name.to_owned(),
            why: shortened(format!("{why}: {}", log.trim_end())),
        }
    }

    pub(super) fn attach(symbol: &str, pid: u32, why: io::Error) -> Self {
        match why.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted {
                missing:
                    "CAP_PERFMON, or CAP_SYS_ADMIN where this kernel wants it for perf events,"
                        .into(),
            },
            _ => Self::Attach {
                symbol: symbol.to_owned(),
                pid,
                why,
            },
        }
    }
}

/// The verifier's reason is at the end of a log that may have megabytes.
fn shortened(text: String) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 12 {
        return text;
    }
    let tail = lines[lines.len() - 12..].join("\n");
    format!("{}\n[..]\n{tail}", lines[0])
}

/// Checks the effective capabilities first, because the kernel would only return EPERM.
pub(super) fn check_capabilities() -> Result<(), KernelError> {
    const SYS_ADMIN: u32 = 21;
    const NEEDED: &[(u32, &str)] = &[(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        // Without /proc, rely on the kernel's error.
        .unwrap_or(u64::MAX);
    if effective >> SYS_ADMIN & 1 == 1 {
        return Ok(());
    }
    for (bit, name) in NEEDED {
        if effective >> bit & 1 == 0 {
            return Err(KernelError::NotPermitted {
                missing: (*name).to_owned(),
            });
        }
    }
    Ok(())
}
