//! The scan of HTTP/1.x request heads: a state machine over bytes that survives between reads.
//!
//! Pure: the kernel programs run it, and a test on the host compares it with a plain parser. Long runs (the rest of a
//! header line, the credential) are taken eight bytes at a time. The credential is fingerprinted as it is read
//! (SipHash-1-3) and never stored. Only its last two words are kept until it ends, for the fingerprint by which
//! memory is searched for it ([`crate::tail`]).

use crate::{CredentialPattern, MAX_HEAD, PATH_LEN, Settings};

pub mod bytes;
mod chunks;
mod credential;
mod parser;

use chunks::{CHUNK_END, CHUNK_LINE, CHUNK_SIZE, TRAILER, TRAILER_LINE};
use credential::{COOKIE_SKIP, NAME, SCHEME, TOKEN, VALUE};
use parser::{LENGTH, LINE_START, METHOD, MOST, PATH, SKIP_LINE};

pub use parser::{BODY, CUT_HEAD, CUT_PATH, LOST, Parser, START};

/// `Scan::event`: a request line's method was recognised.
pub const EVENT_BEGIN: u32 = 1;
/// `Scan::event`: a head is complete.
pub const EVENT_HEAD: u32 = 2;

/// Bytes scanned at once.
pub const CHUNK: usize = 1024;

/// The scan of one chunk of data.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// Next byte of `data`.
    pub position: u32,
    /// Valid bytes of `data`.
    pub end: u32,
    /// Why the scan has stopped: one of the events above, 0 for none.
    pub event: u32,
    /// Zero.
    pub reserved: u32,
    /// State of the scan.
    pub parser: Parser,
    /// The data, and padding so that a whole word can be read at the last byte.
    pub data: [u8; CHUNK + 8],
}

/// One step of the scan, which looks for the credential of `pattern`. Returns 1 to stop: at the end of the data, at
/// an event, at a body, or when the scan is lost.
#[inline(always)]
pub fn step(scan: &mut Scan, settings: &Settings, pattern: &CredentialPattern) -> i64 {
    let position = scan.position;
    if position >= scan.end || position >= CHUNK as u32 || scan.event != 0 {
        return 1;
    }
    let at = (position as usize) & (CHUNK - 1);
    // SAFETY: `data` is eight bytes longer than CHUNK.
    let word = unsafe {
        (&raw const scan.data)
            .cast::<u8>()
            .add(at)
            .cast::<u64>()
            .read_unaligned()
    };
    let byte = word as u8;
    let left = scan.end - position;
    let mut used = 1;
    match scan.parser.state {
        SKIP_LINE => {
            let mask = bytes::equal(word, b'\n');
            if mask == 0 {
                used = 8;
            } else {
                used = bytes::first(mask) + 1;
                if used <= left {
                    scan.parser.state = LINE_START;
                }
            }
        }
        TOKEN => used = credential::token(&mut scan.parser, settings, pattern, word, left),
        PATH => path(&mut scan.parser, byte),
        NAME => credential::name(&mut scan.parser, pattern, byte),
        LINE_START => line_start(scan, pattern, byte),
        VALUE => used = credential::value(&mut scan.parser, pattern, byte),
        SCHEME => credential::scheme(&mut scan.parser, pattern, byte),
        COOKIE_SKIP => match byte {
            b'\n' => scan.parser.state = LINE_START,
            b';' => scan.parser.state = VALUE,
            _ => {}
        },
        LENGTH => length(&mut scan.parser, byte),
        METHOD => method(scan, byte),
        START => {
            if byte == b'\r' || byte == b'\n' {
                // Empty lines before a request line are allowed (RFC 9112, 2.2).
            } else if byte.is_ascii_uppercase() {
                reset(&mut scan.parser);
                method(scan, byte);
            } else {
                scan.parser.state = LOST;
            }
        }
        CHUNK_SIZE | CHUNK_LINE | CHUNK_END | TRAILER | TRAILER_LINE => {
            chunks::between(&mut scan.parser, byte);
        }
        // The callers handle BODY and LOST, for a whole read at once.
        _ => return 1,
    }
    if used > left {
        used = left;
    }
    scan.parser.head_bytes = scan.parser.head_bytes.wrapping_add(used);
    scan.position = position + used;
    i64::from(scan.parser.state == BODY || scan.parser.state == LOST)
}

/// Skips up to `most` bytes of the body; returns how many.
#[inline(always)]
pub fn skip_body(parser: &mut Parser, most: u32) -> u32 {
    let passed = if (most as u64) < parser.body_left {
        most
    } else {
        parser.body_left as u32
    };
    parser.body_left -= passed as u64;
    if parser.body_left == 0 {
        parser.state = if parser.chunked == 0 {
            START
        } else {
            CHUNK_END
        };
    }
    passed
}

/// Forgets the last message. Field by field, because a whole value would not fit on the BPF stack.
#[inline(always)]
fn reset(parser: &mut Parser) {
    parser.state = METHOD;
    parser.method = 0;
    parser.content_length = 0;
    parser.body_left = 0;
    parser.head_bytes = 0;
    parser.chunked = 0;
    parser.path_done = 0;
    parser.path_len = 0;
    parser.cut = 0;
    parser.token = 0;
    parser.tail_fingerprint = 0;
    parser.tail_filter = 0;
    parser.token_len = 0;
}

#[inline(always)]
fn keep(parser: &mut Parser, byte: u8) {
    let length = parser.path_len as usize;
    if length < PATH_LEN {
        parser.path[length & (PATH_LEN - 1)] = byte;
        parser.path_len = length as u32 + 1;
    } else {
        parser.cut = CUT_PATH;
    }
}

const fn number(text: &[u8]) -> u64 {
    let mut value = 0;
    let mut index = 0;
    while index < text.len() {
        value = value << 8 | text[index] as u64;
        index += 1;
    }
    value
}

#[inline(always)]
fn method(scan: &mut Scan, byte: u8) {
    const GET: u64 = number(b"GET");
    const POST: u64 = number(b"POST");
    const PUT: u64 = number(b"PUT");
    const HEAD: u64 = number(b"HEAD");
    const PATCH: u64 = number(b"PATCH");
    const DELETE: u64 = number(b"DELETE");
    const OPTIONS: u64 = number(b"OPTIONS");
    keep(&mut scan.parser, byte);
    let m = scan.parser.method;
    if byte != b' ' {
        scan.parser.method = m << 8 | byte as u64;
        if m >> 56 != 0 || !byte.is_ascii_uppercase() {
            scan.parser.state = LOST;
        }
    } else if m == GET
        || m == POST
        || m == PUT
        || m == HEAD
        || m == PATCH
        || m == DELETE
        || m == OPTIONS
    {
        scan.parser.state = PATH;
        scan.event = EVENT_BEGIN;
    } else {
        scan.parser.state = LOST;
    }
}

#[inline(always)]
fn path(parser: &mut Parser, byte: u8) {
    match byte {
        b'\n' => parser.state = LINE_START,
        b' ' | b'\r' => parser.state = SKIP_LINE,
        b'?' | b'#' => parser.path_done = 1,
        _ => {
            if parser.path_done == 0 {
                keep(parser, byte);
            }
        }
    }
}

#[inline(always)]
fn line_start(scan: &mut Scan, pattern: &CredentialPattern, byte: u8) {
    let parser = &mut scan.parser;
    match byte {
        b'\r' => {}
        b'\n' => {
            // Chunks come first where both are announced (RFC 9112, 6.3).
            if parser.chunked != 0 {
                parser.matched = 0;
                parser.state = CHUNK_SIZE;
            } else {
                parser.body_left = parser.content_length;
                parser.state = if parser.body_left > 0 { BODY } else { START };
            }
            scan.event = EVENT_HEAD;
        }
        _ if parser.head_bytes > MAX_HEAD => {
            // Lines are still followed to find the end of the head, but ignored.
            parser.state = SKIP_LINE;
            parser.cut |= CUT_HEAD;
        }
        _ => credential::begin(parser, pattern, byte),
    }
}

#[inline(always)]
fn length(parser: &mut Parser, byte: u8) {
    match byte {
        b'0'..=b'9' if parser.content_length < MOST => {
            parser.content_length = parser.content_length * 10 + (byte - b'0') as u64;
        }
        b'\n' => parser.state = LINE_START,
        _ => {}
    }
}
