//! What kind of program an executable is.

use std::path::Path;

use crate::error::ProcessError;
use crate::files::{FileError, ForeignFile};
use crate::identity;

/// What kind of program an executable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The only supported one.
    X86_64,
    /// ELF class 32 (i386, x32).
    ThirtyTwoBit,
    /// Another machine.
    Other,
}

/// Reads the class from the start of a file; `None` if it is not ELF.
pub(super) fn class(head: &[u8]) -> Option<Class> {
    const EM_386: u16 = 3;
    const EM_X86_64: u16 = 62;
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    let machine = u16::from_le_bytes([*head.get(18)?, *head.get(19)?]);
    Some(match (*head.get(4)?, machine) {
        (2, EM_X86_64) => Class::X86_64,
        (1, EM_386 | EM_X86_64) => Class::ThirtyTwoBit,
        _ => Class::Other,
    })
}

/// What kind of program `pid` runs.
pub fn class_of(pid: u32) -> Result<Class, ProcessError> {
    let explain = |error| match error {
        FileError::Open { source, .. } | FileError::Read { source, .. } => {
            identity::explain(pid, "exe", source)
        }
        other => identity::explain(pid, "exe", std::io::Error::other(other)),
    };
    let mut head = [0; 20];
    ForeignFile::open(Path::new(&format!("/proc/{pid}/exe")))
        .and_then(|file| file.read_at(0, &mut head))
        .map_err(explain)?;
    Ok(class(&head).unwrap_or(Class::Other))
}
