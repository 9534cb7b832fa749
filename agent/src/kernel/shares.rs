//! What each target holds of the maps that all share, and how much it may: told to the programs.

use aya::maps::{Array, Map, MapData, MapError};
use tracing::warn;

use super::error::KernelError;

/// The maps.
pub(super) struct Shares {
    stacks_held: Array<MapData, u64>,
    blocks_held: Array<MapData, u64>,
    blocks_share: Array<MapData, u64>,
}

impl Shares {
    pub(super) fn new(
        mut take: impl FnMut(&'static str) -> Result<Map, KernelError>,
    ) -> Result<Self, KernelError> {
        let mut array = |name| {
            let mapped = |why: MapError| KernelError::Map { name, why };
            Array::try_from(take(name)?).map_err(mapped)
        };
        Ok(Self {
            stacks_held: array("STACKS_HELD")?,
            blocks_held: array("BLOCKS_HELD")?,
            blocks_share: array("BLOCKS_SHARE")?,
        })
    }

    /// Sets the number of stacks of a slot in the map.
    pub(super) fn set_stacks_held(&mut self, slot: u32, stacks: u64) {
        said(self.stacks_held.set(slot, stacks, 0));
    }

    /// Sets the number of live blocks of a slot in the map.
    pub(super) fn set_blocks_held(&mut self, slot: u32, blocks: u64) {
        said(self.blocks_held.set(slot, blocks, 0));
    }

    /// Sets the number of live blocks that a target may hold unsampled.
    pub(super) fn set_blocks_share(&mut self, share: u64) {
        said(self.blocks_share.set(0, share, 0));
    }
}

fn said(set: Result<(), MapError>) {
    if let Err(why) = set {
        warn!("the programs cannot be told what a target holds: {why}");
    }
}
