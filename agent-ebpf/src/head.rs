//! The scan of HTTP/1.x request heads: a state machine over bytes that survives between reads.
//!
//! Long runs (the rest of a header line, the credential) are taken eight bytes at a time. The
//! credential is fingerprinted as it passes (SipHash-1-3), so it is stored nowhere.

use heaptide_ebpf::{MAX_HEAD, PATH_LEN, PATTERN_LEN};

use crate::{
    maps::{CHUNK, Parser, SCAN, Scan},
    setting,
};

/// Between messages.
pub const START: u32 = 0;
const METHOD: u32 = 1;
const PATH: u32 = 2;
const SKIP_LINE: u32 = 3;
const LINE_START: u32 = 4;
const NAME: u32 = 5;
const VALUE: u32 = 6;
const SCHEME: u32 = 7;
const TOKEN: u32 = 8;
const LENGTH: u32 = 9;
const COOKIE_SKIP: u32 = 10;
/// The body, `body_left` bytes of it.
pub const BODY: u32 = 11;
/// Not at a message's start: nothing is believed until the next read.
pub const LOST: u32 = 12;

/// `Scan::event`: a request line's method was recognised.
pub const EVENT_BEGIN: u32 = 1;
/// `Scan::event`: a head is complete.
pub const EVENT_HEAD: u32 = 2;

const CREDENTIAL: u32 = 1;
const CONTENT_LENGTH: u32 = 2;
const TRANSFER_ENCODING: u32 = 4;
const CONTENT_LENGTH_NAME: &[u8; 32] = b"content-length:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const TRANSFER_ENCODING_NAME: &[u8; 32] = b"transfer-encoding:\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Bits in the bytes of `word` that equal `byte`; exact up to the lowest one.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let x = word ^ (LOW * byte as u64);
    x.wrapping_sub(LOW) & !x & HIGH
}

/// Index of the lowest marked byte.
#[inline(always)]
fn first(mask: u64) -> u32 {
    let lowest = (mask & mask.wrapping_neg()) >> 7;
    (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}

/// One step of the scan; the callback of `bpf_loop`. Returns 1 to stop.
pub unsafe extern "C" fn step(_index: u32, _context: *mut core::ffi::c_void) -> i64 {
    let Some(scan) = SCAN.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: this CPU's own slot; system-call tracepoints run with preemption off.
    let scan = unsafe { &mut *scan };
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
            let mask = equal(word, b'\n');
            if mask == 0 {
                used = 8;
            } else {
                used = first(mask) + 1;
                if used <= left {
                    scan.parser.state = LINE_START;
                }
            }
        }
        TOKEN => used = token(&mut scan.parser, word, left),
        PATH => path(scan, byte),
        NAME => name(&mut scan.parser, byte),
        LINE_START => line_start(scan, byte),
        VALUE => {
            if byte != b' ' && byte != b'\t' {
                scan.parser.matched = 0;
                scan.parser.state = if setting!(scheme_len) == 0 {
                    TOKEN
                } else {
                    SCHEME
                };
                used = 0;
            }
        }
        SCHEME => scheme(&mut scan.parser, byte),
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
        // BODY and LOST are handled a read at a time.
        _ => return 1,
    }
    if used > left {
        used = left;
    }
    scan.parser.head_bytes += used;
    scan.position = position + used;
    if scan.parser.state == BODY || scan.parser.state == LOST {
        return 1;
    }
    0
}

/// Forgets the last message. Field by field: a whole value would not fit on the BPF stack.
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
    parser.token_len = 0;
}

#[inline(always)]
fn keep(parser: &mut Parser, byte: u8) {
    let length = parser.path_len as usize;
    if length < PATH_LEN {
        parser.path[length & (PATH_LEN - 1)] = byte;
        parser.path_len = length as u32 + 1;
    } else {
        parser.cut = 1;
    }
}

#[inline(always)]
fn method(scan: &mut Scan, byte: u8) {
    keep(&mut scan.parser, byte);
    if byte != b' ' {
        let grown = scan.parser.method << 8 | byte as u64;
        let too_long = scan.parser.method >> 56 != 0;
        scan.parser.method = grown;
        if too_long || !byte.is_ascii_uppercase() {
            scan.parser.state = LOST;
        }
        return;
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
    const GET: u64 = number(b"GET");
    const POST: u64 = number(b"POST");
    const PUT: u64 = number(b"PUT");
    const HEAD: u64 = number(b"HEAD");
    const PATCH: u64 = number(b"PATCH");
    const DELETE: u64 = number(b"DELETE");
    const OPTIONS: u64 = number(b"OPTIONS");
    let m = scan.parser.method;
    if m == GET || m == POST || m == PUT || m == HEAD || m == PATCH || m == DELETE || m == OPTIONS {
        scan.parser.state = PATH;
        scan.event = EVENT_BEGIN;
    } else {
        scan.parser.state = LOST;
    }
}

#[inline(always)]
fn path(scan: &mut Scan, byte: u8) {
    match byte {
        b'\n' => scan.parser.state = LINE_START,
        b' ' => scan.parser.state = SKIP_LINE,
        b'?' | b'#' => scan.parser.path_done = 1,
        _ => {
            if scan.parser.path_done == 0 {
                keep(&mut scan.parser, byte);
            }
        }
    }
}

#[inline(always)]
fn line_start(scan: &mut Scan, byte: u8) {
    match byte {
        b'\r' => {}
        b'\n' => {
            let parser = &mut scan.parser;
            parser.body_left = parser.content_length;
            parser.state = if parser.chunked != 0 {
                LOST
            } else if parser.body_left > 0 {
                BODY
            } else {
                START
            };
            scan.event = EVENT_HEAD;
        }
        _ => {
            let parser = &mut scan.parser;
            if parser.head_bytes > MAX_HEAD {
                // Still follows the lines, so that the end is found, but believes none.
                parser.state = SKIP_LINE;
                parser.cut = 2;
                return;
            }
            parser.matched = 0;
            parser.candidates = CREDENTIAL | CONTENT_LENGTH | TRANSFER_ENCODING;
            parser.state = NAME;
            name(parser, byte);
        }
    }
}

#[inline(always)]
fn lower(byte: u8) -> u8 {
    if byte.is_ascii_uppercase() {
        byte | 0x20
    } else {
        byte
    }
}

#[inline(always)]
fn name(parser: &mut Parser, byte: u8) {
    let index = (parser.matched as usize) & (PATTERN_LEN - 1);
    let byte_lower = lower(byte);
    let mut candidates = parser.candidates;
    // SAFETY: the index is within the arrays; the settings are never written after the load.
    let wanted = unsafe {
        core::ptr::read_volatile(
            (&raw const (*crate::maps::settings()).header)
                .cast::<u8>()
                .add(index),
        )
    };
    if byte_lower != wanted {
        candidates &= !CREDENTIAL;
    }
    if byte_lower != CONTENT_LENGTH_NAME[index] {
        candidates &= !CONTENT_LENGTH;
    }
    if byte_lower != TRANSFER_ENCODING_NAME[index] {
        candidates &= !TRANSFER_ENCODING;
    }
    parser.candidates = candidates;
    let matched = parser.matched + 1;
    parser.matched = matched;
    if byte == b'\n' {
        parser.state = LINE_START;
    } else if candidates == 0 {
        parser.state = SKIP_LINE;
    } else if byte == b':' {
        if candidates & CREDENTIAL != 0 && matched == setting!(header_len) {
            // The first credential counts: a second header of the name is left alone.
            parser.state = if parser.token == 0 { VALUE } else { SKIP_LINE };
            parser.token_len = 0;
        } else if candidates & CONTENT_LENGTH != 0 {
            parser.state = LENGTH;
        } else {
            parser.chunked = (candidates & TRANSFER_ENCODING != 0) as u32;
            parser.state = SKIP_LINE;
        }
    }
}

#[inline(always)]
fn scheme(parser: &mut Parser, byte: u8) {
    let index = (parser.matched as usize) & (PATTERN_LEN - 1);
    let cookie = setting!(cookie) != 0;
    let byte = if cookie { byte } else { lower(byte) };
    // SAFETY: as in `name`.
    let wanted = unsafe {
        core::ptr::read_volatile(
            (&raw const (*crate::maps::settings()).scheme)
                .cast::<u8>()
                .add(index),
        )
    };
    if byte == b'\n' {
        parser.state = LINE_START;
    } else if byte != wanted {
        parser.state = if !cookie {
            SKIP_LINE
        } else if byte == b';' {
            VALUE
        } else {
            COOKIE_SKIP
        };
    } else {
        parser.matched += 1;
        if parser.matched == setting!(scheme_len) {
            parser.state = TOKEN;
            parser.token_len = 0;
        }
    }
}

#[inline(always)]
fn length(parser: &mut Parser, byte: u8) {
    match byte {
        b'0'..=b'9' => {
            // 2^40 bytes is beyond any body; more digits would only overflow.
            if parser.content_length < 1 << 40 {
                parser.content_length = parser.content_length * 10 + (byte - b'0') as u64;
            }
        }
        b'\n' => parser.state = LINE_START,
        _ => {}
    }
}

/// Hashes the credential; returns the bytes it used.
#[inline(always)]
fn token(parser: &mut Parser, word: u64, left: u32) -> u32 {
    if parser.token_len == 0 {
        if word as u8 == b' ' {
            return 1;
        }
        let (k0, k1) = (key(0), key(1));
        parser.v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        parser.tail = 0;
    }
    let filled = parser.token_len & 7;
    // Control characters and the space end every credential, ';' one in a cookie.
    let mut ends = word.wrapping_sub(LOW * 0x21) & !word & HIGH;
    if setting!(cookie) != 0 {
        ends |= equal(word, b';');
    }
    if filled == 0 && left >= 8 && ends == 0 {
        compress(&mut parser.v, word);
        parser.token_len += 8;
        return 8;
    }
    if ends & 0x80 != 0 {
        parser.token = finish(parser);
        parser.state = if word as u8 == b'\n' {
            LINE_START
        } else {
            SKIP_LINE
        };
        return 1;
    }
    parser.tail |= (word & 0xff) << (filled * 8);
    parser.token_len += 1;
    if filled == 7 {
        let tail = parser.tail;
        compress(&mut parser.v, tail);
        parser.tail = 0;
    }
    1
}

#[inline(always)]
fn key(index: usize) -> u64 {
    // SAFETY: as in `name`.
    unsafe {
        core::ptr::read_volatile(
            (&raw const (*crate::maps::settings()).key)
                .cast::<u64>()
                .add(index),
        )
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[inline(always)]
fn compress(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}

/// SipHash-1-3 of what was hashed; never 0, which means "no credential".
#[inline(always)]
fn finish(parser: &Parser) -> u64 {
    if parser.token_len == 0 {
        return 0;
    }
    let mut v = parser.v;
    compress(&mut v, parser.tail | (parser.token_len as u64) << 56);
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    let hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    if hash == 0 { 1 } else { hash }
}
