//! Each target's usage and share of the common maps, for the kernel programs.

use aya::maps::{Array, Map, MapData, MapError};
use tracing::warn;

use super::{Kernel, KernelError};

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
}

impl Kernel {
    /// Sets the number of stacks of a slot in the map.
    pub fn set_stacks_held(&mut self, slot: u32, stacks: u64) {
        said(self.shares.stacks_held.set(slot, stacks, 0));
    }

    /// Sets the number of live blocks of a slot in the map.
    pub fn set_blocks_held(&mut self, slot: u32, blocks: u64) {
        said(self.shares.blocks_held.set(slot, blocks, 0));
    }

    /// Sets the number of targets that share the live map. A quarter of it is divided equally and not sampled; a target
    /// that needs more gets it while there is room.
    pub fn share_blocks(&mut self, targets: usize) {
        let share = u64::from(self.capacity / 4) / targets.max(1) as u64;
        said(self.shares.blocks_share.set(0, share, 0));
    }
}

fn said(set: Result<(), MapError>) {
    if let Err(why) = set {
        warn!("cannot set a target's usage for the kernel programs: {why}");
    }
}
