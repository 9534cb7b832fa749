//! Header lines: the names that are recognised, and the credential in the value.

use super::bytes;
use super::parser::{LENGTH, LINE_START, Parser, SKIP_LINE};
use crate::{CredentialPattern, PATTERN_LEN, Settings, tail};

pub(super) const NAME: u32 = 5;
pub(super) const VALUE: u32 = 6;
pub(super) const SCHEME: u32 = 7;
pub(super) const TOKEN: u32 = 8;
pub(super) const COOKIE_SKIP: u32 = 10;

const CREDENTIAL: u32 = 1;
const CONTENT_LENGTH: u32 = 2;
const TRANSFER_ENCODING: u32 = 4;
const CONTENT_LENGTH_NAME: &[u8; 32] = b"content-length:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const TRANSFER_ENCODING_NAME: &[u8; 32] = b"transfer-encoding:\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Reads a field of the settings; volatile, because in the kernel programs they are a constant of zeros that the
/// loader overwrites, and the compiler must not fold them.
macro_rules! setting {
    ($settings:ident.$field:ident) => {
        // SAFETY: a field of a reference: valid and aligned.
        unsafe { core::ptr::read_volatile(&raw const $settings.$field) }
    };
}

#[inline(always)]
fn lower(byte: u8) -> u8 {
    if byte.is_ascii_uppercase() {
        byte | 0x20
    } else {
        byte
    }
}

/// A header line begins.
#[inline(always)]
pub(super) fn begin(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) {
    parser.matched = 0;
    parser.candidates = CREDENTIAL | CONTENT_LENGTH | TRANSFER_ENCODING;
    parser.state = NAME;
    name(parser, pattern, byte);
}

/// A byte of a header's name.
#[inline(always)]
pub(super) fn name(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) {
    let index = (parser.matched as usize) & (PATTERN_LEN - 1);
    let byte_lower = lower(byte);
    let mut candidates = parser.candidates;
    if byte_lower != pattern.header[index] {
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
        if candidates & CREDENTIAL != 0 && matched == pattern.header_len {
            // Only the first header of that name counts.
            parser.state = if parser.token == 0 { VALUE } else { SKIP_LINE };
            parser.token_len = 0;
        } else if candidates & CONTENT_LENGTH != 0 {
            parser.content_length = 0;
            parser.state = LENGTH;
        } else {
            if candidates & TRANSFER_ENCODING != 0 {
                parser.chunked = 1;
            }
            parser.state = SKIP_LINE;
        }
    }
}

/// Before a value, or before the next cookie in it. Returns the bytes it used.
#[inline(always)]
pub(super) fn value(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) -> u32 {
    if byte == b' ' || byte == b'\t' {
        return 1;
    }
    parser.matched = 0;
    parser.state = if pattern.scheme_len == 0 {
        TOKEN
    } else {
        SCHEME
    };
    0
}

/// A byte of the scheme, or of a cookie's name.
#[inline(always)]
pub(super) fn scheme(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) {
    let cookie = pattern.cookie != 0;
    let byte = if cookie { byte } else { lower(byte) };
    if byte == b'\n' {
        parser.state = LINE_START;
    } else if byte != pattern.scheme[parser.matched as usize & (PATTERN_LEN - 1)] {
        parser.state = if !cookie {
            SKIP_LINE
        } else if byte == b';' {
            VALUE
        } else {
            COOKIE_SKIP
        };
    } else {
        parser.matched += 1;
        if parser.matched == pattern.scheme_len {
            parser.state = TOKEN;
            parser.token_len = 0;
        }
    }
}

/// Hashes the credential; returns the bytes it used.
#[inline(always)]
pub(super) fn token(
    parser: &mut Parser,
    settings: &Settings,
    pattern: &CredentialPattern,
    word: u64,
    left: u32,
) -> u32 {
    if parser.token_len == 0 {
        if word as u8 == b' ' {
            return 1;
        }
        let key = (&raw const settings.key).cast::<u64>();
        // SAFETY: two elements of the array.
        let (k0, k1) = unsafe {
            (
                core::ptr::read_volatile(key),
                core::ptr::read_volatile(key.add(1)),
            )
        };
        parser.sip.start(k0, k1);
        parser.tail.start();
    }
    // Control characters end every credential. A space ends one after a scheme (without a scheme the value may be
    // `Basic xyz`), and ';' ends one in a cookie.
    let mut ends = bytes::below(word, pattern.smallest_byte() as u64);
    if pattern.cookie != 0 {
        ends |= bytes::equal(word, b';');
    }
    if parser.token_len.is_multiple_of(8) && left >= 8 && ends == 0 {
        parser.sip.word(word);
        parser.tail.word(word);
        parser.token_len += 8;
        return 8;
    }
    if ends & 0x80 != 0 {
        finish(parser, settings);
        parser.state = if word as u8 == b'\n' {
            LINE_START
        } else {
            SKIP_LINE
        };
        return 1;
    }
    if let Some(whole) = parser.sip.byte(parser.token_len, word & 0xff) {
        parser.tail.word(whole);
    }
    parser.token_len += 1;
    1
}

/// The credential has ended: computes its fingerprints. 0 means "no credential" or "no window".
#[inline(always)]
pub(super) fn finish(parser: &mut Parser, settings: &Settings) {
    parser.token = 0;
    if parser.token_len == 0 {
        return;
    }
    parser.token = match parser.sip.finish(parser.token_len) {
        0 => 1,
        hash => hash,
    };
    let key = setting!(settings.tail_key);
    if let Some(window) = parser.tail.window(parser.token_len, parser.sip.rest()) {
        parser.tail_fingerprint = tail::fingerprint(&key, window);
        parser.tail_filter = tail::filter(&key, window);
    }
    parser.tail.start();
}
