//! The load command of `heaptide check`: started before heaptide drops its capabilities, so that it has those of the
//! caller, and held back until the process is observed.

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process_group, set_parent_process_death_signal},
};

use crate::{
    cli::{ExitCode, StartLoad},
    outputs::format,
};

/// The word that lets it begin.
const GO: u8 = b'g';
/// Time to end after SIGTERM. heaptide itself has three seconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Interval of asking whether it has ended.
const POLL: Duration = Duration::from_millis(10);
/// Maximum length of an error of its start.
const LONGEST_ERROR: u64 = 1024;
/// Maximum characters of the program's name in a message.
const SHOWN: usize = 200;

/// A load command. When dropped, it is ended.
pub(super) struct Load {
    child: Child,
    gate: UnixStream,
    name: String,
    ended: Option<ExitStatus>,
}

/// How a load command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// It could not be started.
    #[error("cannot start the load command `{command}`: {why}")]
    Start {
        /// It.
        command: String,
        /// Why not.
        why: String,
    },
    /// Its end cannot be waited for.
    #[error("cannot wait for the load command `{command}`: {source}")]
    Wait {
        /// It.
        command: String,
        /// Why not.
        source: io::Error,
    },
}

impl Load {
    /// Prepares it. It has its own process group, so that all of it can be ended. It gets no terminal as input: it would
    /// be stopped when it reads from one.
    pub(super) fn prepare(command: &[OsString]) -> Result<Self> {
        let (gate, other) = UnixStream::pair().context("cannot create a socket")?;
        // The child inherits it; `start_load` closes it when the command begins.
        fcntl_setfd(&other, FdFlags::empty()).context("cannot pass on a socket")?;
        let input = if io::stdin().is_terminal() {
            Stdio::null()
        } else {
            Stdio::inherit()
        };
        let child = Command::new("/proc/self/exe")
            .arg("start-load")
            .arg(other.as_raw_fd().to_string())
            .arg("--")
            .args(command)
            .stdin(input)
            .process_group(0)
            .spawn()
            .context("cannot start the load command")?;
        // Its arguments may have credentials.
        let program = command.first().map(|word| word.to_string_lossy());
        Ok(Self {
            child,
            gate,
            name: format::printable(&program.unwrap_or_default(), SHOWN).into_owned(),
            ended: None,
        })
    }

    /// Its program, for messages and results.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Lets it begin.
    pub(super) fn begin(&mut self) -> Result<(), LoadError> {
        let mut why = String::new();
        let said = self
            .gate
            .write_all(&[GO])
            .and_then(|()| (&self.gate).take(LONGEST_ERROR).read_to_string(&mut why));
        if let Err(error) = said {
            why = error.to_string();
        }
        if why.is_empty() {
            return Ok(());
        }
        Err(LoadError::Start {
            command: self.name.clone(),
            why,
        })
    }

    /// How it ended. `None`: it still runs.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, LoadError> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|source| LoadError::Wait {
                command: self.name.clone(),
                source,
            })?;
        }
        Ok(self.ended)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if matches!(self.ended(), Ok(Some(_)) | Err(_)) {
                break;
            }
            thread::sleep(POLL);
        }
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// `exited with 7`, `was ended by signal 9`; `None`: success.
pub(super) fn failure(status: ExitStatus) -> Option<String> {
    if status.success() {
        return None;
    }
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    })
}

/// Runs `heaptide start-load`: waits for the word, and becomes the load command. An error is sent to `heaptide check`.
pub(super) fn start_load(args: &StartLoad) -> Result<ExitCode> {
    // It ends with heaptide, however that ends.
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot tie it to heaptide")?;
    let path = format!("/proc/self/fd/{}", args.gate);
    let is_socket = fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    anyhow::ensure!(
        args.gate > 2 && is_socket,
        "only for use by `heaptide check`"
    );
    // SAFETY: `heaptide check` passes this open descriptor to this process for this purpose, and nothing else here
    // uses it: it was just checked that it is a socket and no standard stream, and no other socket was opened yet.
    let gate = unsafe { OwnedFd::from_raw_fd(args.gate) };
    fcntl_setfd(&gate, FdFlags::CLOEXEC).context("cannot set up the socket")?;
    let mut gate = UnixStream::from(gate);
    let mut word = [0];
    if gate.read_exact(&mut word).is_err() || word != [GO] {
        return Ok(ExitCode::Success);
    }
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Ok(ExitCode::Usage);
    };
    let why = Command::new(program).args(arguments).exec();
    gate.write_all(why.to_string().as_bytes())
        .context("cannot report an error to heaptide")?;
    Ok(ExitCode::LoadFailed)
}
