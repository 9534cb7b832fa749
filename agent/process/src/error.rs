//! Errors of reading a process.

/// Why a process cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No process has this pid.
    #[error("no process has pid {pid}: check the pid, or use `heaptide ps` to find it")]
    NoSuchProcess {
        /// The pid asked for.
        pid: u32,
    },
    /// A kernel thread: it has no user memory.
    #[error("pid {pid} ({name}) is a kernel thread: it has no user memory that could leak")]
    KernelThread {
        /// The pid asked for.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// A 32-bit program.
    #[error(
        "pid {pid} ({exe}) is a 32-bit process: heaptide supports only the x86-64 calling \
         convention"
    )]
    ThirtyTwoBit {
        /// The pid asked for.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// A program for another machine, as under user-mode emulation.
    #[error("pid {pid} ({exe}) is not an x86-64 ELF program: heaptide supports no other")]
    OtherMachine {
        /// The pid asked for.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// `/proc` denied access.
    #[error("not permitted to read {what} of pid {pid}: {capability} is missing (run as root)")]
    NotPermitted {
        /// The pid asked for.
        pid: u32,
        /// The file of `/proc/PID` that was denied.
        what: &'static str,
        /// The capability that allows it.
        capability: &'static str,
    },
    /// `/proc` denied access although the capability is held.
    #[error(
        "not permitted to read {what} of pid {pid}, although CAP_SYS_PTRACE is held: the process belongs to another user \
         namespace, or a security module protects it"
    )]
    Refused {
        /// The pid asked for.
        pid: u32,
        /// The file of `/proc/PID` that was denied.
        what: &'static str,
    },
    /// The process ended while it was being read.
    #[error("pid {pid} ended while heaptide was reading it")]
    Ended {
        /// The pid asked for.
        pid: u32,
    },
    /// Something else failed.
    #[error("cannot read {what} of pid {pid}: {source}")]
    Io {
        /// The pid asked for.
        pid: u32,
        /// What was being read.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}
