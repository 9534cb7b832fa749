//! The lines of a chunked body: sizes of chunks, and the trailer after the last.

use super::parser::{BODY, LOST, MOST, Parser, START};

pub(super) const CHUNK_SIZE: u32 = 13;
pub(super) const CHUNK_LINE: u32 = 14;
pub(super) const CHUNK_END: u32 = 15;
pub(super) const TRAILER: u32 = 16;
pub(super) const TRAILER_LINE: u32 = 17;

/// A byte outside of the chunks.
#[inline(always)]
pub(super) fn between(parser: &mut Parser, byte: u8) {
    let state = parser.state;
    if byte == b'\n' {
        parser.state = match state {
            CHUNK_SIZE if parser.matched == 0 => LOST,
            CHUNK_SIZE | CHUNK_LINE if parser.body_left > 0 => BODY,
            CHUNK_SIZE | CHUNK_LINE | TRAILER_LINE => TRAILER,
            CHUNK_END => {
                parser.matched = 0;
                CHUNK_SIZE
            }
            _ => START,
        };
    } else if state == CHUNK_SIZE {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => {
                parser.state = if parser.matched == 0 {
                    LOST
                } else {
                    CHUNK_LINE
                };
                return;
            }
        };
        parser.matched = 1;
        if parser.body_left < MOST {
            parser.body_left = parser.body_left << 4 | digit as u64;
        }
    } else if byte != b'\r' {
        parser.state = match state {
            CHUNK_END => LOST,
            TRAILER => TRAILER_LINE,
            other => other,
        };
    }
}
