//! The protocol between agent and helper: one packet per message, files attached.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Maximum bytes of a message.
const MAX_MESSAGE: usize = 192 << 10;
/// Maximum bytes of all names and paths in an answer.
pub(super) const MAX_TEXT: usize = 128 << 10;
/// Maximum bytes of one name or path.
pub(super) const MAX_NAME: usize = 8 << 10;
/// Maximum number of files in a message.
const MAX_FILES: usize = 3;

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Detail {
    /// Nothing: the helper died on its symbol tables.
    Nothing,
    /// Symbol tables.
    Names,
    /// Debug information too.
    Lines,
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Read these files: the module, its debug file if any, and the file shared with others. The
    /// answer has the number for later requests.
    Open {
        /// How much of them.
        detail: Detail,
        /// A debug file is the second.
        debug: bool,
        /// A file shared by several debug files is the last.
        shared: bool,
    },
    /// Look up an address of an open module (address in the file).
    Look {
        /// Number of the module.
        module: u32,
        /// The address.
        address: u64,
    },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The module has this number; a part of it may be unreadable.
    Opened(u32, Option<String>),
    /// The helper is full and ends: query the next one.
    Full,
    /// The result of a lookup.
    Looked(Looked),
    /// The request failed.
    Refused(String),
}

/// The result of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::symbols) struct Looked {
    /// The function by the symbol tables.
    pub(in crate::symbols) symbol: Option<String>,
    /// The functions by the debug information, innermost first.
    pub(in crate::symbols) places: Vec<Place>,
}

/// A function and a position in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::symbols) struct Place {
    /// Its demangled name.
    pub(in crate::symbols) function: Option<String>,
    /// Source file.
    pub(in crate::symbols) file: Option<String>,
    /// Line number.
    pub(in crate::symbols) line: Option<u32>,
}

/// Sends a message with files.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files"));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Waits for a message; `None`: the other side has ended.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut beside,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            files.extend(some);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let message = postcard::from_bytes(&bytes[..received.bytes]).map_err(io::Error::other)?;
    Ok(Some((message, files)))
}
