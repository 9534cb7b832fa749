//! Heads in uWSGI's own protocol, in which nginx and uWSGI's router pass requests on to workers: a packet of variables as
//! in CGI, each a name and a value with their lengths. The body follows as announced, and the answer is HTTP.
//!
//! The credential is read by the states of HTTP header values; `Parser::value_left` limits them to the value.

use super::credential;
use super::parser::{
    BODY, EVENT_BEGIN, EVENT_HEAD, LINE_START, LOST, MOST, Parser, SKIP_LINE, START, keep,
};
use super::token::is_tchar;
use crate::{CredentialPattern, METHOD_LEN, Settings};

/// The packet's header: kind 0 (a request), the size of the variables, 0.
pub(super) const PACKET: u32 = 19;
/// The length of a name; two bytes.
pub(super) const NAME_SIZE: u32 = 20;
/// A name.
pub(super) const NAME: u32 = 21;
/// The length of a value; two bytes.
pub(super) const VALUE_SIZE: u32 = 22;
/// The value of `REQUEST_METHOD`.
pub(super) const METHOD: u32 = 23;
/// The value of `REQUEST_URI`.
pub(super) const TARGET: u32 = 24;
/// The value of `CONTENT_LENGTH`.
pub(super) const LENGTH: u32 = 25;
/// A value that is not used.
pub(super) const SKIP: u32 = 26;

const IS_METHOD: u32 = 1;
const IS_TARGET: u32 = 2;
const IS_LENGTH: u32 = 4;
const IS_CREDENTIAL: u32 = 8;
const METHOD_NAME: &[u8; 32] = b"REQUEST_METHOD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const TARGET_NAME: &[u8; 32] = b"REQUEST_URI\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const LENGTH_NAME: &[u8; 32] = b"CONTENT_LENGTH\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// What stands before the name of an HTTP header.
const PREFIX: &[u8; 5] = b"HTTP_";

/// Longest name that is followed. Others are no variables of CGI.
const MOST_NAME: u32 = 256;

/// A packet may begin; its first byte was read.
#[inline(always)]
pub(super) fn begin(parser: &mut Parser) {
    parser.uwsgi = 1;
    parser.state = PACKET;
    parser.matched = 1;
}

/// A byte of the packet's header, of a name or of a length.
#[inline(always)]
pub(super) fn byte(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) {
    match parser.state {
        PACKET => match parser.matched {
            1 => {
                parser.body_left = byte as u64;
                parser.matched = 2;
            }
            2 => {
                parser.body_left |= (byte as u64) << 8;
                parser.matched = 3;
            }
            // The smallest packet of a request has a method and a target.
            _ if byte == 0 && parser.body_left > 8 => {
                parser.matched = 0;
                parser.state = NAME_SIZE;
            }
            _ => parser.state = LOST,
        },
        NAME_SIZE => {
            if parser.matched == 0 {
                parser.value_left = byte as u32;
                parser.matched = 1;
            } else {
                parser.value_left |= (byte as u32) << 8;
                parser.matched = 0;
                parser.candidates = IS_METHOD | IS_TARGET | IS_LENGTH | IS_CREDENTIAL;
                parser.state = if parser.value_left == 0 || parser.value_left > MOST_NAME {
                    LOST
                } else {
                    NAME
                };
            }
        }
        NAME => name(parser, pattern, byte),
        _ => {
            if parser.matched == 0 {
                parser.value_left = byte as u32;
                parser.matched = 1;
            } else {
                parser.value_left |= (byte as u32) << 8;
                parser.matched = 0;
                value(parser);
            }
        }
    }
}

/// A byte of a name.
#[inline(always)]
fn name(parser: &mut Parser, pattern: &CredentialPattern, byte: u8) {
    if !is_tchar(byte) {
        parser.state = LOST;
        return;
    }
    let matched = parser.matched;
    let index = (matched & 31) as usize;
    let mut candidates = if matched < 32 { parser.candidates } else { 0 };
    if byte != METHOD_NAME[index] {
        candidates &= !IS_METHOD;
    }
    if byte != TARGET_NAME[index] {
        candidates &= !IS_TARGET;
    }
    if byte != LENGTH_NAME[index] {
        candidates &= !IS_LENGTH;
    }
    let wanted = if index < PREFIX.len() {
        PREFIX[index]
    } else {
        in_cgi(pattern.header[(index - PREFIX.len()) & 31])
    };
    if byte != wanted {
        candidates &= !IS_CREDENTIAL;
    }
    parser.matched = matched + 1;
    parser.value_left -= 1;
    if parser.value_left == 0 {
        // A name that is only a prefix of the wanted one is another name.
        let next = ((matched + 1) & 31) as usize;
        let rest = if METHOD_NAME[next] == 0 { IS_METHOD } else { 0 }
            | if TARGET_NAME[next] == 0 { IS_TARGET } else { 0 }
            | if LENGTH_NAME[next] == 0 { IS_LENGTH } else { 0 };
        let credential = matched + 2 == pattern.header_len + PREFIX.len() as u32;
        candidates &= rest | if credential { IS_CREDENTIAL } else { 0 };
        parser.matched = 0;
        parser.state = VALUE_SIZE;
    }
    parser.candidates = candidates;
}

/// A byte of a header's name as CGI writes it.
#[inline(always)]
fn in_cgi(byte: u8) -> u8 {
    match byte {
        b'-' => b'_',
        b'a'..=b'z' => byte - 32,
        other => other,
    }
}

/// A value begins.
#[inline(always)]
fn value(parser: &mut Parser) {
    let is = |bit: u32| parser.candidates & bit != 0;
    parser.state = if parser.value_left == 0 {
        NAME_SIZE
    } else if is(IS_METHOD) && parser.path_len == 0 {
        METHOD
    } else if is(IS_TARGET) && parser.path_len > 0 && parser.path_done == 0 {
        TARGET
    } else if is(IS_LENGTH) {
        parser.content_length = 0;
        LENGTH
    } else if is(IS_CREDENTIAL) && parser.token == 0 {
        parser.token_len = 0;
        credential::VALUE
    } else {
        SKIP
    };
}

/// A byte of a value that is not the credential's.
#[inline(always)]
pub(super) fn in_value(parser: &mut Parser, byte: u8) {
    match parser.state {
        METHOD => {
            if !is_tchar(byte) || parser.path_len >= METHOD_LEN {
                parser.state = LOST;
            }
            keep(parser, byte);
        }
        TARGET => match byte {
            b'?' | b'#' => parser.path_done = 1,
            _ if parser.path_done == 0 => keep(parser, byte),
            _ => {}
        },
        LENGTH if byte.is_ascii_digit() && parser.content_length < MOST => {
            parser.content_length = parser.content_length * 10 + (byte - b'0') as u64;
        }
        _ => {}
    }
}

/// Bytes of the current state that the scan may use, of `left`.
#[inline(always)]
pub(super) fn limit(parser: &Parser, left: u32) -> u32 {
    if parser.value_left != 0 && parser.value_left < left {
        parser.value_left
    } else {
        left
    }
}

/// Counts `used` bytes of the packet; at the end of a value the next name follows. Returns the event, 0 for none.
#[inline(always)]
pub(super) fn used(parser: &mut Parser, settings: &Settings, state: u32, used: u32) -> u32 {
    let mut event = 0;
    if parser.state == LOST || (state != PACKET && used as u64 > parser.body_left) {
        parser.state = LOST;
        parser.uwsgi = 0;
        return 0;
    }
    if state == PACKET {
        return 0;
    }
    parser.body_left -= used as u64;
    if !(PACKET..METHOD).contains(&state) {
        parser.value_left = parser.value_left.wrapping_sub(used);
        if parser.value_left == 0 {
            match parser.state {
                METHOD => keep(parser, b' '),
                TARGET => {
                    parser.path_done = 1;
                    event = EVENT_BEGIN;
                }
                credential::TOKEN => credential::finish(parser, settings),
                _ => {}
            }
            parser.matched = 0;
            parser.state = NAME_SIZE;
        } else if parser.state == SKIP_LINE || parser.state == LINE_START {
            // The credential has ended before the value, or there is none.
            parser.state = SKIP;
        }
    }
    if parser.body_left == 0 {
        if parser.state != NAME_SIZE || parser.path_done == 0 || event != 0 {
            parser.state = LOST;
            parser.uwsgi = 0;
            return 0;
        }
        parser.uwsgi = 0;
        parser.value_left = 0;
        parser.body_left = parser.content_length;
        parser.state = if parser.body_left > 0 { BODY } else { START };
        event = EVENT_HEAD;
    }
    event
}
