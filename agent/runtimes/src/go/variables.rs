//! Addresses of the Go runtime's variables, from the code that uses them. A stripped program has no
//! data symbols, and using one method for all programs keeps it tested.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use heaptide_process::{Elf, pclntab::Function};

use super::layout::Layout;

/// Bytes of a function that are decoded.
const MAX_CODE: u64 = 8192;

/// Addresses of the runtime's variables in the process; `None` if not found.
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
    /// Finds them in the code of functions, which are located by name.
    pub(super) fn find(
        elf: &Elf,
        bias: u64,
        layout: Option<Layout>,
        function: impl Fn(&str) -> Option<Function>,
    ) -> Self {
        let code = |name: &str| Some(instructions(elf, function(name)?));
        let first = |name: &str, wanted: fn(&Instruction) -> bool, nth: usize| {
            let found = code(name)?.filter(wanted).nth(nth)?;
            Some(found.ip_rel_memory_address().wrapping_add(bias))
        };
        Self {
            controller: first("runtime.gcControllerCommit", is_address, 0),
            // `work.stwprocs = ..`
            cycles: first("runtime.gcStart", is_store_of_half, 0)
                .zip(layout)
                .map(|(stored, Layout { collector, .. })| {
                    let work = stored.wrapping_sub(u64::from(collector.processors));
                    work.wrapping_add(u64::from(collector.cycles))
                }),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::go::versions;

    /// Compares a lab program's symbols with the addresses found in its code.
    #[test]
    fn variables_are_where_the_symbols_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for minor in versions::minors() {
            let path = root.join(format!("lab/go/target/echo-1.{minor}"));
            let Ok(elf) = Elf::open(&path) else {
                eprintln!(
                    "SKIPPED Go 1.{minor}: the lab has not built {}",
                    path.display()
                );
                continue;
            };
            let layout = versions::layout(minor);
            let mut functions = std::collections::HashMap::new();
            elf.functions(|symbol| {
                let function = Function {
                    entry: symbol.address,
                    size: symbol.size,
                };
                functions.insert(symbol.name.to_owned(), function);
            });
            let found = Variables::find(&elf, 0, layout, |name| functions.get(name).copied());
            let symbol = |name: &str| elf.data_symbol(name);
            let cycles = layout.map(|layout| u64::from(layout.collector.cycles));
            let wanted = Variables {
                controller: symbol("runtime.gcController"),
                cycles: symbol("runtime.work")
                    .zip(cycles)
                    .map(|(at, cycles)| at + cycles),
                phase: symbol("runtime.gcphase"),
                buckets: symbol("runtime.mbuckets"),
                profile_rate: symbol("runtime.MemProfileRate"),
                goroutines: symbol("runtime.allgs"),
            };
            assert!(
                wanted.controller.is_some(),
                "{} has no symbols",
                path.display()
            );
            assert_eq!(found, wanted, "Go 1.{minor}");
        }
    }
}
