//! The plan: which kernel program is attached to which instruction, and why.

mod allocators;
mod ends;
mod handlers;
mod planner;
pub mod programs;
pub mod prologue;
mod results;
mod usdt;
pub mod wishes;

use regex::Regex;

use crate::inspect::Inspected;
use planner::Planner;
use wishes::Wishes;

pub use planner::{Plan, Probe};
pub use programs::{Program, Purpose};

/// What to plan for.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Probe the allocators.
    pub allocations: bool,
    /// Functions whose calls are request scopes, matched against demangled names.
    pub handlers: Vec<Regex>,
}

/// Plans the probes for a process; `wishes` are those of its runtime.
pub fn plan(process: &Inspected, wishes: &Wishes, options: &PlanOptions) -> Plan {
    let mut planner = Planner::new();
    if options.allocations && !planner.usdt(process) {
        planner.allocators(process);
    }
    planner.wishes(process, wishes);
    match wishes.no_handlers {
        _ if options.handlers.is_empty() => {}
        Some(why) => planner.plan.limitations.push(why.to_string()),
        None => planner.handlers(process, &options.handlers),
    }
    for module in &process.modules {
        module.elf.release();
    }
    planner.plan
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
