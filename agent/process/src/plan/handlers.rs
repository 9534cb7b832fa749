//! `--handler SYMBOL`: entry and return of application functions as request scopes.

use std::ops::Range;

use heaptide_ebpf::Cookie;
use regex::Regex;

use super::planner::{Planner, place};
use super::{ends, programs};
use crate::{inspect::Inspected, module::Module};

/// Maximum number of handlers: an expression that matches more is a mistake.
const MAX_HANDLERS: usize = 64;
/// Maximum bytes of a demangled name.
const MAX_NAME: usize = 64 << 10;

struct Match {
    name: String,
    vaddr: u64,
    size: u64,
}

impl Planner {
    pub(super) fn handlers(&mut self, process: &Inspected, expressions: &[Regex]) {
        let mut hits = vec![0_usize; expressions.len()];
        'modules: for module in &process.modules {
            let (found, cold) = matches(module, expressions, &mut hits);
            for found in found {
                if self.plan.handlers.len() == MAX_HANDLERS {
                    self.plan.limitations.push(format!(
                        "--handler matches more than {MAX_HANDLERS} functions: only the first \
                         are used; use a narrower expression"
                    ));
                    break 'modules;
                }
                let place = place(module, &found.name, found.vaddr, found.size, &self.needs());
                let none = Cookie::NONE;
                let number = self.plan.handlers.len() as u8;
                let cookie = Cookie::new(0, none, none, none, number, place.pushed);
                let enter = programs::HANDLER_ENTER;
                self.add(module, enter, &found.name, found.vaddr, &place, cookie);
                let code = module.elf.at(found.vaddr, found.size as usize);
                for place in ends::of(&found.name, &code.unwrap_or_default(), found.vaddr, &cold) {
                    let cookie = Cookie::new(0, none, none, none, number, 0);
                    let program = programs::HANDLER_RETURN;
                    self.add(module, program, &found.name, found.vaddr, &place, cookie);
                }
                self.plan.handlers.push(found.name);
            }
        }
        for (expression, hits) in expressions.iter().zip(hits) {
            if hits == 0 {
                self.plan.limitations.push(format!(
                    "--handler {expression} matches no function (inlined, or stripped of symbols)"
                ));
            }
        }
    }
}

/// Functions to probe, and the cold parts of functions, which are jumped to and not called.
fn matches(
    module: &Module,
    expressions: &[Regex],
    hits: &mut [usize],
) -> (Vec<Match>, Vec<Range<u64>>) {
    let mut found: Vec<Match> = Vec::new();
    let mut cold = Vec::new();
    module.elf.functions(|symbol| {
        if symbol.name.contains(".cold") {
            cold.push(symbol.address..symbol.address.saturating_add(symbol.size.max(1)));
            return;
        }
        if found.iter().any(|m| m.vaddr == symbol.address) {
            return;
        }
        let name = demangled(symbol.name);
        let Some(which) = expressions.iter().position(|e| e.is_match(&name)) else {
            return;
        };
        hits[which] += 1;
        found.push(Match {
            name,
            vaddr: symbol.address,
            size: symbol.size,
        });
    });
    (found, cold)
}

fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if !name.starts_with("_Z") {
        return name.to_string();
    }
    let mut short = Short(String::new());
    let written = cpp_demangle::Symbol::new(name).ok().map(|symbol| {
        symbol.structured_demangle(&mut short, &cpp_demangle::DemangleOptions::new())
    });
    match written {
        Some(Ok(())) => short.0,
        _ => name.to_string(),
    }
}

/// A name with a maximum length: a few bytes of mangled C++ can expand to gigabytes.
struct Short(String);

impl cpp_demangle::DemangleWrite for Short {
    fn write_string(&mut self, part: &str) -> std::fmt::Result {
        if self.0.len() + part.len() > MAX_NAME {
            return Err(std::fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}
