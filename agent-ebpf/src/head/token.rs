//! The start of a request line: a method, which is any token of RFC 9110, a space, and a target.

use crate::METHOD_LEN;

/// Bytes needed to recognise the start of a request line.
pub const OPENING: usize = 32;

/// The characters of tokens among the first 64 of ASCII: `!#$%&'*+-.` and digits.
const LOW: u64 = 0x03ff_6cfa_0000_0000;
/// Among the others: letters and ``^_`|~``.
const HIGH: u64 = 0x57ff_ffff_c7ff_fffe;

/// Whether `byte` may be in a token (RFC 9110, 5.6.2).
#[inline(always)]
#[must_use]
pub const fn is_tchar(byte: u8) -> bool {
    let set = if byte < 64 { LOW } else { HIGH };
    byte < 128 && set >> (byte & 63) & 1 != 0
}

/// Whether the first `len` bytes of `text` are the start of a request line. For descriptors that were open before the
/// attach, which may also be files: so the target must be plausible (`/`, `*`, the scheme of a URL, a host).
#[inline(always)]
#[must_use]
pub fn begins_request(text: &[u8; OPENING], len: u32) -> bool {
    for index in 0..OPENING - 1 {
        if index as u32 + 1 >= len {
            break;
        }
        if text[index] == b' ' {
            let target = text[index + 1];
            return index > 0 && (matches!(target, b'/' | b'*') || target.is_ascii_alphanumeric());
        }
        if !is_tchar(text[index]) || index as u32 >= METHOD_LEN {
            return false;
        }
    }
    false
}

const _: () = assert!(METHOD_LEN as usize + 2 <= OPENING);
