//! Builds a plan: probes and their positions in functions.

use std::path::PathBuf;

use heaptide_ebpf::{Cookie, shape};

use super::programs::Program;
use super::prologue::{self, Needs, Place};
use crate::allocators::Function;
use crate::module::Module;

/// Bytes of a function searched for jumps back into its prologue.
const MAX_FUNCTION: u64 = 4096;

/// One probe to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Path under which the agent can open the file.
    pub path: PathBuf,
    /// Its file offset.
    pub file_offset: u64,
    /// File offset of the function.
    pub entry_offset: u64,
    /// The kernel program.
    pub program: Program,
    /// File offset of its semaphore, 0: none.
    pub semaphore: u64,
    /// The attach cookie, see [`Cookie`]. For handlers its allocator byte is the index in
    /// [`Plan::handlers`].
    pub cookie: u64,
    /// The function.
    pub symbol: String,
    /// Why at this position.
    pub why: String,
}

/// All probes for a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The probes.
    pub probes: Vec<Probe>,
    /// Names of the request handlers found, by handler number.
    pub handlers: Vec<String>,
    /// What cannot be seen and why, one sentence each, without those of the target.
    pub limitations: Vec<String>,
}

/// A plan under construction.
pub(super) struct Planner {
    pub(super) plan: Plan,
    pub(super) long_nops: bool,
}

impl Planner {
    /// An empty plan.
    pub(super) fn new() -> Self {
        Self {
            plan: Plan::default(),
            long_nops: kernel_emulates_long_nops(),
        }
    }

    /// What every position needs on this kernel.
    pub(super) fn needs(&self) -> Needs {
        Needs {
            long_nops: self.long_nops,
            ..Needs::default()
        }
    }

    /// Adds a probe whose cookie describes registers.
    pub(super) fn add(
        &mut self,
        module: &Module,
        program: Program,
        symbol: &str,
        vaddr: u64,
        place: &Place,
        cookie: Cookie,
    ) {
        self.add_at(module, program, symbol, vaddr, place, cookie.0);
    }

    /// Adds a probe.
    pub(super) fn add_at(
        &mut self,
        module: &Module,
        program: Program,
        symbol: &str,
        vaddr: u64,
        place: &Place,
        cookie: u64,
    ) {
        let Some(file_offset) = module.elf.file_offset(vaddr.wrapping_add(place.offset)) else {
            let name = &module.name;
            self.plan
                .limitations
                .push(format!("{symbol} of {name} is outside of its code"));
            return;
        };
        self.plan.probes.push(Probe {
            path: module.file.clone(),
            file_offset,
            entry_offset: file_offset - place.offset,
            program,
            semaphore: 0,
            cookie,
            symbol: symbol.to_string(),
            why: place.why.clone(),
        });
    }
}

/// What a position in an allocator's function needs.
pub(super) fn needs_of(function: &Function, long_nops: bool) -> Needs {
    let free = function.shape == shape::FREE;
    Needs {
        arguments: function.arguments().collect(),
        null_is_nothing: free.then_some(function.pointer),
        returns: !free,
        long_nops,
    }
}

/// The best position in a function.
pub(super) fn place(module: &Module, symbol: &str, vaddr: u64, size: u64, needs: &Needs) -> Place {
    // Without a size this may include the next function; its loops cannot jump in here.
    let len = if size == 0 {
        64
    } else {
        size.min(MAX_FUNCTION)
    };
    let bytes = module.elf.at(vaddr, len as usize).unwrap_or_default();
    prologue::choose(symbol, &bytes, vaddr, needs)
}

/// Linux 6.16 added it; it is assumed from 6.17 on, where it is certain.
fn kernel_emulates_long_nops() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 17),
        _ => false,
    }
}
