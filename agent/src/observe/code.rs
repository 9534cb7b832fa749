//! Mapped files with code of a target.

use std::collections::HashSet;

use heaptide_process::maps;
use heaptide_runtimes::Target;

/// By device and inode.
#[derive(Debug, Default)]
pub(super) struct Code(HashSet<(u64, u64)>);

impl Code {
    /// Files mapped at the start.
    pub(super) fn of(target: &Target) -> Self {
        let code = target.process.mappings.iter().filter(|m| m.executable);
        Self(code.map(|m| (m.dev, m.inode)).collect())
    }

    /// Reads the mappings; true if there is a new file.
    pub(super) fn has_grown(&mut self, pid: u32) -> bool {
        // The end of a process is noticed elsewhere.
        let mappings = maps::read(pid).unwrap_or_default();
        let mut grown = false;
        for mapping in mappings.iter().filter(|m| m.executable && m.inode != 0) {
            grown |= self.0.insert((mapping.dev, mapping.inode));
        }
        grown
    }
}
