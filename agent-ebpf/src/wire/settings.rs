//! Settings that are fixed when the kernel half is loaded.

use super::{layout::records, limits::PATTERN_LEN};

records! {
    /// What counts as a credential and the key of the fingerprint; constant for a load.
    Settings = 136 {
        /// `SipHash` key, random per start.
        key: [u64; 2],
        /// Keys of credentials' windows, random per start; the last two are odd.
        tail_key: [u64; 4],
        /// Lower-case header name with its colon, zero-padded.
        header: [u8; PATTERN_LEN],
        /// Lower-case scheme and space (`bearer `), or the cookie's name and `=`, zero-padded.
        scheme: [u8; PATTERN_LEN],
        /// Length of `header`.
        header_len: u32,
        /// Length of `scheme`; 0: the whole value is the credential.
        scheme_len: u32,
        /// 1: `scheme` names a cookie inside the header.
        cookie: u32,
        /// Live blocks at which sampling begins.
        sample_from: u32,
        /// Capacity of the live map.
        capacity: u32,
        /// Zero.
        reserved: u32,
    }
}
