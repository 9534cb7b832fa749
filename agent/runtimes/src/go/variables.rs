//! Where the Go runtime's variables lie, from the code that uses them: a stripped program has no data
//! symbols, and one way for all is one that is tested.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use heaptide_process::{Elf, pclntab::Function};

/// Bytes of a function that are looked at.
const MAX_CODE: u64 = 8192;

/// The runtime's variables, in addresses of the process. Those that were not found are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    /// `runtime.gcController`.
    pub(crate) controller: Option<u64>,
    /// `runtime.work.cycles`.
    pub(crate) cycles: Option<u64>,
    /// `runtime.gcphase`: 0 between collections.
    pub(crate) phase: Option<u64>,
    /// `runtime.mbuckets`.
    pub(crate) buckets: Option<u64>,
    /// `runtime.MemProfileRate`.
    pub(crate) profile_rate: Option<u64>,
    /// `runtime.allgs`, a slice of `*g`.
    pub(crate) goroutines: Option<u64>,
}

impl Variables {
    /// Reads them out of the functions, which are found by name.
    pub(super) fn find(elf: &Elf, bias: u64, function: impl Fn(&str) -> Option<Function>) -> Self {
        let code = |name: &str| Some(instructions(elf, function(name)?));
        let first = |name: &str, wanted: fn(&Instruction) -> bool, nth: usize| {
            let found = code(name)?.filter(wanted).nth(nth)?;
            Some(found.ip_rel_memory_address().wrapping_add(bias))
        };
        Self {
            controller: first("runtime.gcControllerCommit", is_address, 0),
            // `work.stwprocs = ..` follows `work.cycles` in the struct
            cycles: first("runtime.gcStart", is_store_of_half, 0).map(|after| after - 4),
            phase: first("runtime.gcControllerCommit", is_test_of_half, 0),
            buckets: first("runtime.mProf_FlushLocked", is_load, 0),
            // the first is `mcache0`
            profile_rate: first("runtime.profilealloc", is_load, 1),
            goroutines: first("runtime.forEachG", is_load, 0),
        }
    }
}

fn instructions(elf: &Elf, function: Function) -> impl Iterator<Item = Instruction> {
    let bytes = elf.at(function.entry, function.size.min(MAX_CODE) as usize);
    Decoder::with_ip(
        64,
        &bytes.unwrap_or_default(),
        function.entry,
        DecoderOptions::NONE,
    )
    .iter()
    .collect::<Vec<_>>()
    .into_iter()
    .filter(Instruction::is_ip_rel_memory_operand)
}

/// `lea r64, [rip + ..]`.
fn is_address(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Lea
}

/// `mov r64, [rip + ..]`.
fn is_load(i: &Instruction) -> bool {
    i.code() == Code::Mov_r64_rm64 && i.op1_kind() == OpKind::Memory
}

/// `cmp dword [rip + ..], imm`.
fn is_test_of_half(i: &Instruction) -> bool {
    matches!(i.code(), Code::Cmp_rm32_imm8 | Code::Cmp_rm32_imm32)
}

/// `mov [rip + ..], r32`.
fn is_store_of_half(i: &Instruction) -> bool {
    i.code() == Code::Mov_rm32_r32 && i.op0_kind() == OpKind::Memory
}
