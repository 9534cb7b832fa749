//! An allocator's static probes for its samples (`otel_memory`), which replace probes on its
//! functions.

use heaptide_ebpf::{Operand, UsdtCookie};

use super::planner::Planner;
use super::programs;
use super::prologue::Place;
use crate::allocators::TABLE;
use crate::notes::{StaticProbe, of_provider};
use crate::{inspect::Inspected, module::Module};

const PROVIDER: &str = "otel_memory";

impl Planner {
    /// Plans for the static probes of the process; `false` if none is usable.
    pub(super) fn usdt(&mut self, process: &Inspected) -> bool {
        let mut planned = false;
        for (index, module) in process.modules.iter().enumerate() {
            let probes = of_provider(&module.elf, PROVIDER);
            let named = |name: &str| probes.iter().any(|probe| probe.name == name);
            if !named("alloc") || !named("free") {
                continue;
            }
            let allocator = process.allocators.iter().find(|one| one.module == index);
            let number = allocator.map_or(TABLE.len() as u8 - 1, |one| one.number);
            planned |= self.module(module, number, &probes);
        }
        if planned {
            self.plan.limitations.push(
                "only allocations sampled by the process itself are seen: heaptide uses the \
                 otel_memory probes of its allocator instead of probes on functions"
                    .to_owned(),
            );
        }
        planned
    }

    fn module(&mut self, module: &Module, allocator: u8, probes: &[StaticProbe]) -> bool {
        let mut cookies = Vec::new();
        for probe in probes {
            let (program, count) = match probe.name.as_str() {
                "alloc" => (programs::USDT_ALLOC, 3),
                "free" => (programs::USDT_FREE, 1),
                _ => continue,
            };
            // Either probe alone is useless.
            let Some(arguments) = probe.arguments.as_ref().filter(|all| all.len() == count) else {
                let name = &module.name;
                self.plan.limitations.push(format!(
                    "the otel_memory probes of {name} are not used: their arguments do not \
                     follow the convention"
                ));
                return false;
            };
            let at = |index: usize| arguments.get(index).copied().unwrap_or(Operand(0));
            let cookie = UsdtCookie::new([at(0), at(1), at(2)], allocator);
            cookies.push((probe, program, cookie));
        }
        for (probe, program, cookie) in cookies {
            let symbol = format!("{PROVIDER}:{}", probe.name);
            let place = Place {
                offset: 0,
                pushed: 0,
                emulated: true,
                arguments: [0, 1, 2, 3, 4, 5],
                why: format!("{symbol} is a static probe, a nop that the kernel emulates"),
            };
            let before = self.plan.probes.len();
            self.add_at(module, program, &symbol, probe.address, &place, cookie.0);
            let semaphore = module.elf.file_offset(probe.semaphore).unwrap_or(0);
            for planned in &mut self.plan.probes[before..] {
                planned.semaphore = semaphore;
            }
        }
        true
    }
}
