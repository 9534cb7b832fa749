//! The scan of heads of HTTP/1.x requests, and of those in uWSGI's protocol: a state machine over bytes that survives
//! between reads.
//!
//! Pure: the kernel programs run it, and a test on the host compares it with a plain parser. Long runs (the rest of a
//! header line, the credential) are taken eight bytes at a time. The credential is fingerprinted as it is read
//! (SipHash-1-3) and never stored. Only its last two words are kept until it ends, for the fingerprint by which
//! memory is searched for it ([`crate::tail`]).

use crate::{CredentialPattern, MAX_HEAD, METHOD_LEN, Settings};

pub mod bytes;
mod chunks;
mod credential;
mod parser;
mod token;
mod uwsgi;

use chunks::{CHUNK_END, CHUNK_LINE, CHUNK_SIZE, TRAILER, TRAILER_LINE};
use credential::{COOKIE_SKIP, NAME, SCHEME, TOKEN, VALUE};
use parser::{LENGTH, LINE_START, METHOD, MOST, PATH, SKIP_LINE, VERSION, keep};

pub use parser::{BODY, CUT_HEAD, CUT_PATH, EVENT_BEGIN, EVENT_HEAD, LOST, Parser, START};
pub use token::{OPENING, begins_request, is_tchar};

/// Longest request line that is followed.
const MOST_LINE: u32 = 1 << 16;

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
    // Without the black box the compiler proves the mask redundant and drops it, which the verifier of Linux 6.1 cannot
    // follow.
    let at = (core::hint::black_box(position) as usize) & (CHUNK - 1);
    // SAFETY: `data` is eight bytes longer than CHUNK.
    let word = unsafe {
        (&raw const scan.data)
            .cast::<u8>()
            .add(at)
            .cast::<u64>()
            .read_unaligned()
    };
    let byte = word as u8;
    let mut left = scan.end - position;
    let mut used = 1;
    let before = scan.parser.state;
    let in_packet = scan.parser.uwsgi != 0 && before != START;
    if in_packet {
        left = uwsgi::limit(&scan.parser, left);
    }
    match before {
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
        VERSION => version(scan, byte),
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
        METHOD => method(&mut scan.parser, byte),
        START => {
            if byte == b'\r' || byte == b'\n' {
                // Empty lines before a request line are allowed (RFC 9112, 2.2).
            } else if is_tchar(byte) {
                reset(&mut scan.parser);
                method(&mut scan.parser, byte);
            } else if byte == 0 {
                reset(&mut scan.parser);
                uwsgi::begin(&mut scan.parser);
            } else {
                scan.parser.state = LOST;
            }
        }
        CHUNK_SIZE | CHUNK_LINE | CHUNK_END | TRAILER | TRAILER_LINE => {
            chunks::between(&mut scan.parser, byte);
        }
        uwsgi::SKIP => used = left,
        uwsgi::METHOD | uwsgi::TARGET | uwsgi::LENGTH => {
            uwsgi::in_value(&mut scan.parser, byte);
        }
        uwsgi::PACKET | uwsgi::NAME_SIZE | uwsgi::NAME | uwsgi::VALUE_SIZE => {
            uwsgi::byte(&mut scan.parser, pattern, byte);
        }
        // The callers handle BODY and LOST, for a whole read at once.
        _ => return 1,
    }
    if used > left {
        used = left;
    }
    scan.parser.head_bytes = scan.parser.head_bytes.wrapping_add(used);
    scan.position = position + used;
    if in_packet {
        let event = uwsgi::used(&mut scan.parser, settings, before, used);
        if event != 0 {
            scan.event = event;
        }
    }
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
    parser.content_length = 0;
    parser.body_left = 0;
    parser.head_bytes = 0;
    parser.chunked = 0;
    parser.uwsgi = 0;
    parser.value_left = 0;
    parser.path_done = 0;
    parser.path_len = 0;
    parser.cut = 0;
    parser.token = 0;
    parser.tail_fingerprint = 0;
    parser.tail_filter = 0;
    parser.token_len = 0;
}

/// A byte of the method: any token (RFC 9110, 9.1) of bounded length.
#[inline(always)]
fn method(parser: &mut Parser, byte: u8) {
    if byte == b' ' {
        parser.matched = 0;
        parser.state = PATH;
    } else if !is_tchar(byte) || parser.path_len >= METHOD_LEN {
        parser.state = LOST;
    }
    keep(parser, byte);
}

/// A byte of the target. It has no control characters and ends at a space. If it ends at the end of the line, this is
/// not a request of HTTP/1.x.
#[inline(always)]
fn path(parser: &mut Parser, byte: u8) {
    match byte {
        b' ' if parser.matched != 0 => {
            parser.matched = 0;
            parser.state = VERSION;
        }
        0..=b' ' | 0x7f => parser.state = LOST,
        _ if parser.head_bytes > MOST_LINE => parser.state = LOST,
        b'?' | b'#' => {
            parser.matched = 1;
            parser.path_done = 1;
        }
        _ => {
            parser.matched = 1;
            if parser.path_done == 0 {
                keep(parser, byte);
            }
        }
    }
}

/// A byte of `HTTP/1.x`. Only with the last one this is certainly a request: a method is any word, and many other
/// protocols begin with a word too.
#[inline(always)]
fn version(scan: &mut Scan, byte: u8) {
    const NAME: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let parser = &mut scan.parser;
    let wanted = (NAME >> ((parser.matched & 7) * 8)) as u8;
    parser.matched += 1;
    if wanted == 0 && byte.is_ascii_digit() {
        parser.state = SKIP_LINE;
        scan.event = EVENT_BEGIN;
    } else if byte != wanted || wanted == 0 {
        parser.state = LOST;
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
