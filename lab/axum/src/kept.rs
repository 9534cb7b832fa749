//! Contents of a variant's container, by its own counts.

use std::collections::BTreeMap;

use serde::Serialize;

/// Contents of a variant's container.
#[derive(Default, Serialize)]
pub struct Kept {
    /// Entries in it.
    pub(crate) entries: usize,
    /// Bytes requested by its entries.
    pub(crate) entry_bytes: usize,
    /// Bytes requested by its table, which grows by doubling.
    pub(crate) table_bytes: usize,
    /// Blocks and bytes per route, if known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) by_route: BTreeMap<&'static str, Blocks>,
}

/// Blocks of one size.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Blocks {
    pub(crate) block_bytes: usize,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}
