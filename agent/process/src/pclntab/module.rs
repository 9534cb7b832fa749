//! `runtime.moduledata` of a Go process: what the function table omits.

use std::time::Duration;

use super::words::u64_at;
use crate::elf::Elf;
use crate::memory::{Budget, ProcessMemory};

/// Offsets of `gofunc` in `runtime.moduledata`: up to Go 1.26, and from 1.27 on.
const GOFUNC: [usize; 2] = [320, 344];
/// Offsets of `text` and `etext`.
const TEXT: usize = 176;
/// Bytes read of it.
const MODULE_BYTES: usize = 352;
/// Maximum bytes of data searched.
const MAX_DATA: u64 = 64 << 20;

/// Fields of `runtime.moduledata`, as addresses of the process.
pub(super) struct Module {
    pub(super) text: u64,
    pub(super) end: u64,
    pub(super) trees: [u64; 2],
}

/// Finds `runtime.firstmoduledata` in the process: it begins with the addresses of the function table
/// and its names.
pub(super) fn moduledata(elf: &Elf, pid: u32, bias: u64, table: u64, names: u64) -> Option<Module> {
    let memory = ProcessMemory::of_pid(pid);
    let mut budget = Budget::new(4 * MAX_DATA, u64::MAX, Duration::from_secs(5));
    for name in [".go.module", ".noptrdata", ".data", ".data.rel.ro"] {
        let Some(section) = elf.section(name).filter(|s| s.size <= MAX_DATA) else {
            continue;
        };
        let mut bytes = vec![0; usize::try_from(section.size).ok()?];
        let at = section.address.wrapping_add(bias);
        if !memory.fill(at, &mut bytes, &mut budget) {
            continue;
        }
        let found = (0..bytes.len().saturating_sub(MODULE_BYTES - 1))
            .step_by(8)
            .find(|at| u64_at(&bytes, *at) == Some(table) && u64_at(&bytes, at + 8) == Some(names));
        if let Some(at) = found {
            return Some(Module {
                text: u64_at(&bytes, at + TEXT)?,
                end: u64_at(&bytes, at + TEXT + 8)?,
                trees: [
                    u64_at(&bytes, at + GOFUNC[0])?,
                    u64_at(&bytes, at + GOFUNC[1])?,
                ],
            });
        }
    }
    None
}
