//! Tokens by their fingerprints, and what a search of a target's memory for them found.

use serde::{Deserialize, Serialize};

use super::time::Nanos;

/// The keyed fingerprint of a credential. Never the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// Tokens of finished requests that are still in the target's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// When the scan ended.
    pub at: Nanos,
    /// Bytes of memory scanned.
    pub scanned_bytes: u64,
    /// A limit on time or bytes ended the scan early, so counts are lower bounds.
    pub cut: bool,
    /// By age of the token's last request, youngest first.
    pub ages: Vec<ResidentAge>,
    /// A sample of the older tokens: which of them were found.
    pub sample: Vec<ResidentToken>,
    /// Strings in memory that look like tokens.
    pub strings: TokenStrings,
}

/// Strings in memory that begin like most tokens found there, garbage included. Tokens from before the observation are
/// among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenStrings {
    /// Not all memory was searched, or the beginning of the tokens is not known yet.
    #[default]
    Unknown,
    /// The tokens found have no common beginning.
    NotAlike,
    /// They were counted.
    Counted {
        /// Keyed fingerprint of the beginning.
        beginning: u64,
        /// How many there are.
        count: u64,
    },
}

/// One token that was searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentToken {
    /// Which.
    pub token: Fingerprint,
    /// It was found.
    pub is_resident: bool,
}

/// Tokens by the age of their last request: at least this age, and less than the next entry's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentAge {
    /// Seconds since the last request that carried them.
    pub at_least_seconds: u64,
    /// Distinct tokens of that age that were searched for.
    pub tokens: u64,
    /// Tokens found.
    pub resident: u64,
}
