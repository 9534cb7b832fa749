//! Probes on the functions of allocators.

use std::collections::HashMap;

use heaptide_ebpf::{Cookie, shape};

use super::planner::{Planner, needs_of, place};
use super::programs;
use super::results::{self, Code, Exit};
use crate::allocators::{AllocatorInstance, ResolvedFunction, TABLE};
use crate::{inspect::Inspected, module::Module};

impl Planner {
    /// Plans probes for every function of every allocator in use.
    pub(super) fn allocators(&mut self, process: &Inspected) {
        let mut codes: HashMap<usize, (Code<'_>, HashMap<u64, Exit>)> = HashMap::new();
        for allocator in &process.allocators {
            let module = &process.modules[allocator.module];
            let (code, taken) = codes
                .entry(allocator.module)
                .or_insert_with(|| (Code::new(&module.elf), HashMap::new()));
            for function in &allocator.functions {
                if !only_jumps(code, process, allocator, function) {
                    self.allocator_function(module, allocator.number, function, code, taken);
                }
            }
        }
    }

    fn allocator_function(
        &mut self,
        module: &Module,
        allocator: u8,
        resolved: &ResolvedFunction,
        code: &Code<'_>,
        taken: &mut HashMap<u64, Exit>,
    ) {
        let function = resolved.function;
        let (symbol, vaddr) = (&resolved.symbol, resolved.vaddr);
        let mut needs = needs_of(function, self.long_nops);
        if function.throws {
            needs.returns = false;
        }
        let place = place(module, symbol, vaddr, resolved.size, &needs);
        let cookie = Cookie::new(
            function.shape,
            place.argument(function.size),
            place.argument(function.factor),
            place.argument(function.pointer),
            allocator,
            place.pushed,
        );
        if function.shape == shape::FREE {
            let has_header = TABLE
                .get(usize::from(allocator))
                .is_some_and(|row| row.size_before_block);
            let cookie = if has_header {
                cookie.with_header()
            } else {
                cookie
            };
            self.add(module, programs::FREE, symbol, vaddr, &place, cookie);
            return;
        }
        if !function.throws {
            // both at one instruction: one trap is enough
            self.add(module, programs::ALLOC_ENTER, symbol, vaddr, &place, cookie);
            self.add(
                module,
                programs::ALLOC_RETURN,
                symbol,
                vaddr,
                &place,
                cookie,
            );
            return;
        }
        let before = taken.clone();
        let Some(exits) = results::of(code, vaddr, taken) else {
            self.plan.limitations.push(format!(
                "blocks of {symbol} in {} are not seen: not all of its returns were found, and \
                 a return probe would end the process if it throws",
                module.name
            ));
            return;
        };
        let cookie = cookie.throwing();
        self.add(module, programs::ALLOC_ENTER, symbol, vaddr, &place, cookie);
        for exit in exits.iter().filter(|e| !before.contains_key(&e.address)) {
            let none = Cookie::NONE;
            let cookie = Cookie::new(
                0,
                exit.register,
                exit.condition,
                none,
                allocator,
                exit.pushed,
            );
            let at = exit.place(symbol);
            self.add(
                module,
                programs::ALLOC_RESULT,
                symbol,
                exit.address,
                &at,
                cookie,
            );
        }
    }
}

/// The function only jumps to another function of its kind, which is probed.
fn only_jumps(
    code: &Code<'_>,
    process: &Inspected,
    allocator: &AllocatorInstance,
    resolved: &ResolvedFunction,
) -> bool {
    let Some(goal) = code.stands_for(resolved.vaddr) else {
        return false;
    };
    let same_module = process
        .allocators
        .iter()
        .filter(|other| other.module == allocator.module);
    let mut probed = same_module.flat_map(|other| &other.functions);
    probed.any(|other| {
        other.vaddr == goal
            && goal != resolved.vaddr
            && other.function.shape == resolved.function.shape
    })
}
