//! Probes that a runtime requests, in terms of functions; the plan chooses the positions.

use heaptide_ebpf::Cookie;

use super::ends;
use super::planner::{Planner, place};
use super::programs::Program;
use super::prologue::Needs;
use crate::inspect::Inspected;

/// A function of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionAt {
    /// Index of the module in [`Inspected::modules`].
    pub module: usize,
    /// Its name, demangled.
    pub symbol: String,
    /// Address in the file.
    pub vaddr: u64,
    /// Size in bytes; 0 if unknown.
    pub size: u64,
}

/// What is requested for a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The program at the entry, with this attach cookie.
    Entry(Program, u64),
    /// The program at the entry, with a [`Cookie`] that locates the first argument.
    FirstArgument(Program),
    /// The program at the return, with this attach cookie.
    Return(Program, u64),
    /// Each call is a request: a program at the entry, one at each end, and a preliminary name of the
    /// request.
    Scope(Program, Program, &'static str),
}

/// A probe, or the probes of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeWish {
    /// The function.
    pub function: FunctionAt,
    /// The request.
    pub ask: Ask,
}

/// All requests of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The probes, in the order in which they are attached.
    pub probes: Vec<ProbeWish>,
    /// What is not seen because a function is missing, one sentence each.
    pub limitations: Vec<String>,
    /// Why functions of the application cannot be request scopes (`--handler`), if they cannot.
    pub no_handlers: Option<&'static str>,
}

impl Planner {
    pub(super) fn wishes(&mut self, process: &Inspected, wishes: &Wishes) {
        self.plan
            .limitations
            .extend(wishes.limitations.iter().cloned());
        for wish in &wishes.probes {
            self.wish(process, wish);
        }
    }

    fn wish(&mut self, process: &Inspected, wish: &ProbeWish) {
        let FunctionAt {
            module,
            symbol,
            vaddr,
            size,
        } = &wish.function;
        let Some(module) = process.modules.get(*module) else {
            return;
        };
        let none = Cookie::NONE;
        match wish.ask {
            Ask::Entry(program, cookie) => {
                let place = place(module, symbol, *vaddr, *size, &self.needs());
                if !place.emulated {
                    // Single-stepping is slow, but has no other drawback.
                    let why = &place.why;
                    self.plan
                        .limitations
                        .push(format!("probing {symbol} is slow: {why}"));
                }
                self.add_at(module, program, symbol, *vaddr, &place, cookie);
            }
            Ask::FirstArgument(program) => {
                let needs = Needs {
                    arguments: vec![0],
                    ..self.needs()
                };
                let place = place(module, symbol, *vaddr, *size, &needs);
                let cookie = Cookie::new(0, none, none, place.argument(0), 0, place.pushed);
                self.add(module, program, symbol, *vaddr, &place, cookie);
            }
            Ask::Return(program, cookie) => {
                let needs = Needs {
                    returns: true,
                    ..self.needs()
                };
                let place = place(module, symbol, *vaddr, *size, &needs);
                self.add_at(module, program, symbol, *vaddr, &place, cookie);
            }
            Ask::Scope(enter, leave, name) => {
                let code = module.elf.at(*vaddr, *size as usize);
                let ends = ends::of(symbol, &code.unwrap_or_default(), *vaddr, &[]);
                if ends.is_empty() {
                    let said = format!("requests are not seen at {symbol}: no return was found");
                    self.plan.limitations.push(said);
                    return;
                }
                let number = self.plan.handlers.iter().position(|known| known == name);
                let number = number.unwrap_or_else(|| {
                    self.plan.handlers.push(name.to_string());
                    self.plan.handlers.len() - 1
                }) as u8;
                let place = place(module, symbol, *vaddr, *size, &self.needs());
                let cookie = Cookie::new(0, none, none, none, number, place.pushed);
                self.add(module, enter, symbol, *vaddr, &place, cookie);
                for place in ends {
                    let cookie = Cookie::new(0, none, none, none, number, 0);
                    self.add(module, leave, symbol, *vaddr, &place, cookie);
                }
            }
        }
    }
}
