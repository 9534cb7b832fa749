//! The state of the scan of a connection.

use crate::{PATH_LEN, sip::Sip, tail::Tail};

/// Between messages.
pub const START: u32 = 0;
pub(super) const METHOD: u32 = 1;
pub(super) const PATH: u32 = 2;
pub(super) const SKIP_LINE: u32 = 3;
pub(super) const LINE_START: u32 = 4;
pub(super) const LENGTH: u32 = 9;
pub(super) const VERSION: u32 = 18;
/// The body (or a chunk of it), `body_left` bytes of it.
pub const BODY: u32 = 11;
/// The position in the message is unknown: nothing is recognised until the next read.
pub const LOST: u32 = 12;

/// `Scan::event`: a request line was recognised, up to its version.
pub const EVENT_BEGIN: u32 = 1;
/// `Scan::event`: a head is complete.
pub const EVENT_HEAD: u32 = 2;

/// `Parser::cut`: the path was cut.
pub const CUT_PATH: u32 = 1;
/// `Parser::cut`: lines beyond [`MAX_HEAD`] were ignored.
pub const CUT_HEAD: u32 = 2;

/// Larger than any real body; digits of longer announcements are dropped before the number overflows.
pub(super) const MOST: u64 = 1 << 40;

/// State of the scan of a connection; survives between reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    /// Hash of the credential that is being read.
    pub sip: Sip,
    /// Its last whole words.
    pub tail: Tail,
    /// Its length so far.
    pub token_len: u32,
    /// One of the states above.
    pub state: u32,
    /// Position in the name being matched.
    pub matched: u32,
    /// Bits: which names still match.
    pub candidates: u32,
    /// Body bytes announced.
    pub content_length: u64,
    /// Body bytes still to skip.
    pub body_left: u64,
    /// Head bytes so far.
    pub head_bytes: u32,
    /// 1: the body comes in chunks.
    pub chunked: u32,
    /// 1: the head is in uWSGI's protocol.
    pub uwsgi: u32,
    /// There: bytes of the name or value still to come.
    pub value_left: u32,
    /// 1: the query is being skipped; path bytes are not kept any more.
    pub path_done: u32,
    /// Used bytes of `path`.
    pub path_len: u32,
    /// The finished fingerprint, 0 for none.
    pub token: u64,
    /// The fingerprint of its window, 0 for none.
    pub tail_fingerprint: u64,
    /// The window's filter.
    pub tail_filter: u32,
    /// Bits [`CUT_PATH`] and [`CUT_HEAD`].
    pub cut: u32,
    /// `METHOD path`.
    pub path: [u8; PATH_LEN],
}

/// A byte of the method and the path.
#[inline(always)]
pub(super) fn keep(parser: &mut Parser, byte: u8) {
    let length = parser.path_len as usize;
    if length < PATH_LEN {
        parser.path[length & (PATH_LEN - 1)] = byte;
        parser.path_len = length as u32 + 1;
    } else {
        parser.cut = CUT_PATH;
    }
}
