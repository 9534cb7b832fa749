//! The map of stacks as a whole: read now and then, so that what nobody needs any more goes out of it.

use std::collections::HashMap;
use std::os::fd::RawFd;

use heaptide_ebpf::Stack;

use super::{
    Kernel, KernelError,
    raw::{self, Batch},
};

/// Stacks read at once.
const BATCH: usize = 1024;

/// What is needed for that.
pub(super) struct StackMaps {
    stacks_fd: RawFd,
    batch: Batch<u64, Stack>,
    /// A block may have been born with one of them at the moment of its removal.
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

    /// Removes stacks; the programs put them there again when they are met again.
    pub fn remove_stacks(&mut self, sites: &[u64]) {
        raw::delete_batch(self.stack_maps.stacks_fd, sites);
        self.changed_rules();
    }

    /// The same, but until the next call these can still be asked for.
    pub fn retire_stacks(&mut self, stacks: HashMap<u64, Stack>) {
        let sites: Vec<u64> = stacks.keys().copied().collect();
        self.stack_maps.retired = stacks;
        self.remove_stacks(&sites);
    }
}
