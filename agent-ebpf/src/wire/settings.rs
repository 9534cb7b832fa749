//! Settings for all targets; fixed when the kernel programs are loaded.

use super::layout::records;

records! {
    /// Fingerprint keys and the size of the live map.
    Settings = 56 {
        /// `SipHash` key of fingerprints, random per start.
        key: [u64; 2],
        /// Keys for the windows of credentials, random per start; the last two are odd.
        tail_key: [u64; 4],
        /// Number of live blocks at which sampling begins.
        sample_from: u32,
        /// Capacity of the live map.
        capacity: u32,
    }
}
