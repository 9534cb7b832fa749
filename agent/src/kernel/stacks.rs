//! Reads and prunes the map of stacks as a whole.

use std::collections::HashMap;
use std::os::fd::RawFd;

use heaptide_ebpf::Stack;

use super::{
    Kernel, KernelError,
    raw::{self, Batch},
};

/// Stacks read at once.
const BATCH: usize = 1024;

/// Maps and buffers for that.
pub(super) struct StackMaps {
    stacks_fd: RawFd,
    batch: Batch<u64, Stack>,
    /// Stacks removed last: a block may have been allocated with one at that moment.
    pub(super) retired: HashMap<u64, Stack>,
}

impl StackMaps {
    pub(super) fn new(stacks_fd: RawFd) -> Self {
        Self {
            stacks_fd,
            batch: Batch::new(BATCH),
            retired: HashMap::new(),
        }
    }
}

impl Kernel {
    /// Calls `each` for every stack in the map.
    pub fn each_stack(&mut self, mut each: impl FnMut(u64, &Stack)) -> Result<(), KernelError> {
        let maps = &mut self.stack_maps;
        let read = maps
            .batch
            .for_each(maps.stacks_fd, |site, stack| each(*site, stack));
        read.map_err(|why| KernelError::Read {
            name: "STACKS",
            why,
        })
    }

    /// Removes stacks; the programs add them again when they recur.
    pub fn remove_stacks(&mut self, sites: &[u64]) {
        raw::delete_batch(self.stack_maps.stacks_fd, sites);
        self.changed_rules();
    }

    /// The same, but these stay available until the next call.
    pub fn retire_stacks(&mut self, stacks: HashMap<u64, Stack>) {
        let sites: Vec<u64> = stacks.keys().copied().collect();
        self.stack_maps.retired = stacks;
        self.remove_stacks(&sites);
    }
}
