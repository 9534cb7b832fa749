//! The map of stacks as a whole: read now and then, so that what nobody needs any more goes out of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use heaptide_ebpf::Stack;

use super::batch::{self, Batch};

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

    /// Calls `each` for every stack in the map.
    pub(super) fn each(&mut self, mut each: impl FnMut(u64, &Stack)) -> io::Result<()> {
        self.batch
            .for_each(self.stacks_fd, |site, stack| each(*site, stack))
    }

    /// Removes stacks.
    pub(super) fn remove(&self, sites: &[u64]) {
        batch::delete_batch(self.stacks_fd, sites);
    }
}
