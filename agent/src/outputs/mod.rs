//! Outputs of a [`Report`](heaptide_judge::report::Report). They read only the report, and for the
//! files with call stacks the live stacks. They never read the pipeline.

pub mod alerts;
pub mod check;
pub mod diff;
pub mod file;
pub mod files;
pub mod flamegraph;
pub mod format;
pub mod html;
pub mod http;
pub mod json;
pub mod junit;
pub mod live;
pub mod markdown;
pub mod metrics;
pub mod pprof;
pub mod text;

mod screen;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heaptide_judge::{report::Report, stacks::LiveStacks};

/// A file that is written if its flag is given: a line in [`files::TABLE`].
#[derive(Debug)]
pub struct FileOutput {
    /// The flag, without dashes.
    pub flag: &'static str,
    /// Name of its value in the help.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Writes it atomically.
    pub write: fn(&Report, &LiveStacks, &Path) -> Result<(), OutputError>,
}

/// The error for a file that would show no stack.
fn needs_stacks(
    what: &'static str,
    report: &Report,
    stacks: &LiveStacks,
    path: &Path,
) -> Result<(), OutputError> {
    match stacks.missing(&report.target) {
        None => Ok(()),
        Some(why) => Err(OutputError::Nothing {
            what,
            path: path.to_owned(),
            why,
        }),
    }
}

/// Errors of outputs.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file could not be written. No partial file is left.
    #[error("cannot write {what} to {}: {source}; {}", path.display(), advice(source))]
    File {
        /// What should be written (`the report`).
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write {what} to standard output: {source}; {}", advice(source))]
    Stdout {
        /// What should be written.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing to show in it.
    #[error("{what} was not written to {}. {why}", path.display())]
    Nothing {
        /// What should be written.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it would be empty, and what would help.
        why: String,
    },
    /// Two outputs would overwrite each other.
    #[error("two outputs are to be written to {}: name another file for one of them", path.display())]
    Twice {
        /// Where.
        path: PathBuf,
    },
    /// A value cannot be encoded in this format.
    #[error("cannot encode {what}: {reason}; this is a bug in heaptide, please report it")]
    Encode {
        /// What should be encoded.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The address cannot be bound.
    #[error("cannot serve metrics on {address}: {source}; {}", listen_advice(*address, source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Advice for an error of a file.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "there is no space left: free some, or use another disk"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "the folder does not exist: create it, or name another file"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a file in a folder that this user may write to"
        }
        io::ErrorKind::IsADirectory => "name a file, not a folder",
        _ => "name another file, or try again",
    }
}

/// Advice for an address that cannot be bound.
fn listen_advice(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program uses this port (`ss -ltnp 'sport = :{port}'` shows which): stop it, or \
             choose another with --metrics or `metrics` in the configuration",
            port = address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this host does not have this address: use 127.0.0.1 or one that `ip addr` shows"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one".to_owned()
        }
        _ => "choose another address with --metrics or `metrics` in the configuration".to_owned(),
    }
}
