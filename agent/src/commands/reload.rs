//! `heaptide reload`: checks the configuration of the running daemon, and tells the daemon to read it again.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::list;
use crate::{
    cli::{self, Command, ExitCode, Reload},
    config,
    outputs::{file, format},
};
use heaptide_process::identity;

/// Why no daemon is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// There is none.
    #[error(
        "no daemon runs that this user may signal: start one with `heaptide run --config FILE`, or use sudo"
    )]
    None,
    /// There are several.
    #[error("several daemons run ({0}): name one with --pid")]
    Several(String),
    /// The process is another one.
    #[error("pid {0} is no `heaptide run`")]
    Another(u32),
}

/// Runs it.
pub(super) fn reload(args: &Reload) -> Result<ExitCode> {
    let pid = match args.pid {
        Some(pid) => pid,
        None => only_daemon()?,
    };
    // From here on the number stays that of this process.
    let another = || ReloadError::Another(pid);
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process =
        pidfd_open(id.ok_or_else(another)?, PidfdFlags::empty()).map_err(|_| another())?;
    let path = configuration(pid).ok_or_else(another)?;
    let config = config::load(&path)?;
    pidfd_send_signal(&process, Signal::HUP)
        .with_context(|| format!("cannot send SIGHUP to pid {pid}"))?;
    let said = format!(
        "{} is valid ({} targets), and heaptide (pid {pid}) reads it again; its log names what changes\n",
        path.display(),
        config.targets.len()
    );
    file::print("the result", said.as_bytes())?;
    Ok(ExitCode::Success)
}

fn only_daemon() -> Result<u32, ReloadError> {
    let mut pids = list::pids();
    pids.retain(|pid| *pid != std::process::id() && configuration(*pid).is_some());
    match pids.as_slice() {
        [] => Err(ReloadError::None),
        [pid] => Ok(*pid),
        several => {
            let all: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(ReloadError::Several(all.join(", ")))
        }
    }
}

/// The configuration file of a daemon. `None`: the process is another program or subcommand, which SIGHUP would end.
fn configuration(pid: u32) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let exe = identity::exe(pid).ok()?;
    if format::base_name(&exe) != own.file_name()?.to_str()? {
        return None;
    }
    let Ok(Command::Run(run)) = cli::understand(identity::arguments(pid)) else {
        return None;
    };
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    Some(folder.join(run.config))
}
