//! The files with code that a target has mapped.

use std::collections::HashSet;

use heaptide_process::maps;
use heaptide_runtimes::Target;

/// By device and inode.
#[derive(Debug, Default)]
pub(super) struct Code(HashSet<(u64, u64)>);

impl Code {
    /// What is mapped when the observation begins.
    pub(super) fn of(target: &Target) -> Self {
        let code = target.process.mappings.iter().filter(|m| m.executable);
        Self(code.map(|m| (m.dev, m.inode)).collect())
    }

    /// Looks what is mapped now; whether some of it was never seen before.
    pub(super) fn has_grown(&mut self, pid: u32) -> bool {
        // A process that ends is noticed elsewhere.
        let mappings = maps::read(pid).unwrap_or_default();
        let mut grown = false;
        for mapping in mappings.iter().filter(|m| m.executable && m.inode != 0) {
            grown |= self.0.insert((mapping.dev, mapping.inode));
        }
        grown
    }
}
