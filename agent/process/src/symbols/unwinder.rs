//! Unwinding of copied stacks, and the unwind rules of a process's return addresses.

use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};
use heaptide_ebpf::{MAX_FRAMES, UnwindRule, rule};

use super::calls;
use super::frames;
use super::rules::{Rules, UNKNOWN};
use crate::{
    error::ProcessError,
    maps,
    module::{Module, modules},
};

/// Maximum bytes of unwind sections that framehop holds after a stack.
const MAX_HELD: usize = 4 << 20;

/// An unwound stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwound {
    /// The first program counter, then return addresses, innermost first; at most [`MAX_FRAMES`].
    pub frames: Vec<u64>,
    /// It stopped before the outermost frame, because unwind information or copied stack was
    /// missing. A stack deeper than [`MAX_FRAMES`] is not truncated.
    pub truncated: bool,
}

struct Mapped {
    module: Module,
    rules: Rules,
    /// Bytes that framehop holds of it; `None`: not loaded yet.
    held: Option<usize>,
}

/// The unwind information of one process.
pub struct Unwinder {
    pid: u32,
    modules: Vec<Mapped>,
    framehop: UnwinderX86_64<Arc<[u8]>>,
    cache: CacheX86_64,
}

impl Unwinder {
    /// Reads the mappings of a process.
    pub fn new(pid: u32) -> Result<Self, ProcessError> {
        let mut unwinder = Self {
            pid,
            modules: Vec::new(),
            framehop: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
        };
        unwinder.refresh()?;
        Ok(unwinder)
    }

    /// Reads the mappings again (after a `dlopen` or an exec). Returns the names of new modules, as
    /// [`Unwinder::call_rules`] filters them.
    pub fn refresh(&mut self) -> Result<Vec<String>, ProcessError> {
        let mappings = maps::read(self.pid)?;
        let found = modules(self.pid, &mappings, &mut Vec::new());
        let same = |a: &Module, b: &Module| a.inode == b.inode && a.bias == b.bias;
        self.modules.retain(|old| {
            let stays = found.iter().any(|new| same(new, &old.module));
            if !stays && old.held.is_some() {
                self.framehop.remove_module(old.module.start);
            }
            stays
        });
        let mut added = Vec::new();
        for module in found {
            if self.modules.iter().any(|old| same(&old.module, &module)) {
                continue;
            }
            added.push(module.name.clone());
            self.modules.push(Mapped {
                rules: Rules::new(module.elf.clone()),
                module,
                held: None,
            });
        }
        self.modules.sort_by_key(|m| m.module.start);
        Ok(added)
    }

    /// The modules known, by address.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.iter().map(|m| &m.module)
    }

    /// Unwinds a copied stack. `stack` begins at `sp`, the stack pointer of the frame of `pc`;
    /// `exact_pc`: `pc` is the interrupted instruction and not a return address. Memory is read from
    /// the copy only.
    pub fn unwind(&mut self, pc: u64, exact_pc: bool, sp: u64, bp: u64, stack: &[u8]) -> Unwound {
        let unwound = self.walk(pc, exact_pc, sp, bp, stack);
        if self.modules.iter().filter_map(|m| m.held).sum::<usize>() > MAX_HELD {
            self.release();
        }
        unwound
    }

    fn walk(&mut self, pc: u64, exact_pc: bool, sp: u64, bp: u64, stack: &[u8]) -> Unwound {
        let mut frames = vec![pc];
        let mut address = if exact_pc {
            FrameAddress::from_instruction_pointer(pc)
        } else {
            match FrameAddress::from_return_address(pc) {
                Some(address) => address,
                None => {
                    return Unwound {
                        frames,
                        truncated: true,
                    };
                }
            }
        };
        let mut registers = UnwindRegsX86_64::new(pc, sp, bp);
        let mut read = |at: u64| {
            let start = usize::try_from(at.checked_sub(sp).ok_or(())?).map_err(|_| ())?;
            let bytes = stack
                .get(start..start.checked_add(8).ok_or(())?)
                .ok_or(())?;
            bytes.try_into().map(u64::from_le_bytes).map_err(|_| ())
        };
        while frames.len() < MAX_FRAMES {
            // framehop treats an undefined return address as an error
            if self.rule_at(address.address_for_lookup()).kind == rule::END {
                return Unwound {
                    frames,
                    truncated: false,
                };
            }
            self.hold(address.address_for_lookup());
            let step =
                self.framehop
                    .unwind_frame(address, &mut registers, &mut self.cache, &mut read);
            let Ok(Some(next)) = step else {
                return Unwound {
                    frames,
                    truncated: !matches!(step, Ok(None)),
                };
            };
            let Some(next_address) = FrameAddress::from_return_address(next) else {
                return Unwound {
                    frames,
                    truncated: true,
                };
            };
            // without unwind information the step was a guess: accept only addresses in code
            if self.module_of(next).is_none() {
                return Unwound {
                    frames,
                    truncated: true,
                };
            }
            frames.push(next);
            address = next_address;
        }
        Unwound {
            frames,
            truncated: false,
        }
    }

    /// Whether a return address lies in one of the known modules.
    pub fn has(&self, return_address: u64) -> bool {
        self.module_of(return_address.wrapping_sub(1)).is_some()
    }

    /// The rule for leaving the frame of a return address.
    pub fn rule(&mut self, return_address: u64) -> UnwindRule {
        self.rule_at(return_address.wrapping_sub(1))
    }

    /// The rule for leaving the frame of an interrupted instruction.
    pub fn rule_exact(&mut self, pc: u64) -> UnwindRule {
        self.rule_at(pc)
    }

    fn rule_at(&mut self, lookup: u64) -> UnwindRule {
        let Some(index) = self.module_of(lookup) else {
            return UNKNOWN;
        };
        let mapped = &mut self.modules[index];
        mapped.rules.at(lookup.wrapping_sub(mapped.module.bias))
    }

    /// Index of the module of an address.
    fn module_of(&self, address: u64) -> Option<usize> {
        let after = self.modules.partition_point(|m| m.module.start <= address);
        let index = after.checked_sub(1)?;
        (address < self.modules[index].module.end).then_some(index)
    }

    /// The rules of every return address in the modules that `wanted` accepts, sorted by address, at
    /// most `max`. They fill the kernel's map before the first stack is taken. Rules for stopping
    /// are omitted, so that the kernel copies the stack instead.
    pub fn call_rules(
        &mut self,
        wanted: impl Fn(&Module) -> bool,
        max: usize,
    ) -> Vec<(u64, UnwindRule)> {
        let mut all = Vec::new();
        for mapped in self.modules.iter_mut().filter(|m| wanted(&m.module)) {
            let first = all.len();
            calls::collect(&mapped.module.elf, &mut mapped.rules, max, &mut all);
            for (address, _) in &mut all[first..] {
                *address = address.wrapping_add(mapped.module.bias);
            }
            mapped.module.elf.release();
        }
        all.retain(|(_, rule)| rule.kind != rule::UNKNOWN);
        all.sort_unstable_by_key(|(address, _)| *address);
        all
    }

    /// Loads the module of an address into framehop.
    fn hold(&mut self, address: u64) {
        let Some(index) = self.module_of(address) else {
            return;
        };
        let mapped = &mut self.modules[index];
        if mapped.held.is_none() {
            let (module, bytes) = framehop_module(&mapped.module);
            self.framehop.add_module(module);
            mapped.held = Some(bytes);
        }
    }

    /// Drops caches.
    pub fn release(&mut self) {
        for mapped in &mut self.modules {
            mapped.module.elf.release();
            if mapped.held.take().is_some() {
                self.framehop.remove_module(mapped.module.start);
            }
        }
    }
}

/// A module in framehop's form, and the bytes that it holds.
fn framehop_module(module: &Module) -> (framehop::Module<Arc<[u8]>>, usize) {
    let elf = &module.elf;
    let (eh_frame, eh_frame_hdr) = (
        frames::section(elf, ".eh_frame"),
        frames::section(elf, ".eh_frame_hdr"),
    );
    let len = |bytes: &Option<Arc<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let bytes = len(&eh_frame) + len(&eh_frame_hdr);
    let place = |name: &str| {
        let section = elf.section(name)?;
        Some(section.address..section.address.checked_add(section.size)?)
    };
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: place(".text"),
        text: None,
        got_svma: place(".got"),
        eh_frame_svma: place(".eh_frame"),
        eh_frame,
        eh_frame_hdr_svma: place(".eh_frame_hdr"),
        eh_frame_hdr,
        // used by other operating systems
        stubs_svma: None,
        stub_helper_svma: None,
        unwind_info: None,
        debug_frame: None,
        text_segment_svma: None,
        text_segment: None,
    };
    let module = framehop::Module::new(
        module.name.clone(),
        module.start..module.end,
        module.bias,
        info,
    );
    (module, bytes)
}
