//! What a variant's container keeps, by its own books.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a variant's container keeps.
#[derive(Default, Serialize)]
pub(crate) struct Kept {
    /// Entries in it.
    pub(crate) entries: usize,
    /// Bytes its entries asked for.
    pub(crate) entry_bytes: usize,
    /// Bytes its own table asked for, which grows by doubling.
    pub(crate) table_bytes: usize,
    /// Blocks and bytes per route, where the variant knows them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) by_route: BTreeMap<&'static str, Blocks>,
}

/// Blocks of one size.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Blocks {
    pub(crate) block_bytes: usize,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}
