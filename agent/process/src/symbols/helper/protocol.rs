//! What the agent asks the helper, and how: one packet per message, files beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of a message.
const MAX_MESSAGE: usize = 192 << 10;
/// Bytes of all names and paths in an answer.
pub(super) const MAX_TEXT: usize = 128 << 10;
/// Bytes of one name or path.
pub(super) const MAX_NAME: usize = 8 << 10;
/// Files that come with a message.
const MAX_FILES: usize = 3;

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Detail {
    /// Nothing: the helper has died of its symbol tables.
    Nothing,
    /// Symbol tables.
    Names,
    /// Debug information too.
    Lines,
}

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Read these files: the module, and with it perhaps its debug file and what that shares with
    /// others. The answer's number is used from then on.
    Open {
        /// How much of them.
        detail: Detail,
        /// A debug file is the second.
        debug: bool,
        /// A file shared by several debug files is the last.
        shared: bool,
    },
    /// Name an address of an open module, in the file's own terms.
    Look {
        /// Number of the module.
        module: u32,
        /// The address.
        address: u64,
    },
}

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The module has this number; perhaps a part of it could not be read.
    Opened(u32, Option<String>),
    /// The helper holds too much already and ends: ask the next one.
    Full,
    /// What is at the address.
    Looked(Looked),
    /// It cannot be done.
    Refused(String),
}

/// What is at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::symbols) struct Looked {
    /// The function by the symbol tables.
    pub(in crate::symbols) symbol: Option<String>,
    /// The functions by the debug information, innermost first.
    pub(in crate::symbols) places: Vec<Place>,
}

/// A function, and the place in it that is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::symbols) struct Place {
    /// Its demangled name.
    pub(in crate::symbols) function: Option<String>,
    /// Source file.
    pub(in crate::symbols) file: Option<String>,
    /// Line in it.
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
