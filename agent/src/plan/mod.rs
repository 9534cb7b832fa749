//! Which instruction of which function gets which kernel program, and why.

mod allocators;
mod ends;
mod go;
mod handlers;
pub mod prologue;
mod results;
mod streams;
mod usdt;

use std::path::PathBuf;

use heaptide_ebpf::{Cookie, shape};
use regex::Regex;

use crate::target::allocators::Function;
use crate::target::{Module, Target};
use prologue::{Needs, Place};

/// Bytes of a function that are searched for loops back into its prologue.
const MAX_FUNCTION: u64 = 4096;

/// What to plan for.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Probe the allocators.
    pub allocations: bool,
    /// Functions whose calls are request scopes, matched against demangled names.
    pub handlers: Vec<Regex>,
    /// Follow the logical tasks of the runtime.
    pub tasks: bool,
}

/// The kernel program a probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// An allocating function was called.
    AllocEnter,
    /// It returned (uretprobe).
    AllocReturn,
    /// It is certain to return and its result is known: in place of a uretprobe where it may throw.
    AllocResult,
    /// A freeing function was called.
    Free,
    /// A logical task is run; its address is in RDI.
    TaskPoll,
    /// Python has copied the current context.
    PythonContext,
    /// hyper polls a stream of HTTP/2.
    StreamPoll,
    /// It is about to return from that (a probe at each of its ends).
    StreamDone,
    /// A request handler was called.
    HandlerEnter,
    /// It is about to return (a probe at each of its ends).
    HandlerReturn,
    /// Go's net/http calls a handler.
    GoServe,
    /// It has returned.
    GoFinish,
    /// A router of Go is asked for the handler of a request.
    GoRoute,
    /// An allocator says that it has chosen a block to be watched.
    UsdtAlloc,
    /// It says that such a block is given back.
    UsdtFree,
    /// Go's net/http begins to read a head.
    GoRead,
    /// Go's net/http has read a head of HTTP/2.
    GoHttp2Head,
    /// It calls its handler.
    GoHttp2Run,
    /// That has returned.
    GoHttp2Done,
    /// Go's runtime begins or ends a goroutine.
    GoGoroutine,
    /// It looks for room in a span of its heap.
    GoNextFree,
    /// It has a new span.
    GoLarge,
}

impl Program {
    /// It is for an allocator's functions.
    pub fn is_allocator(self) -> bool {
        matches!(
            self,
            Self::AllocEnter
                | Self::AllocReturn
                | Self::AllocResult
                | Self::Free
                | Self::UsdtAlloc
                | Self::UsdtFree
                | Self::GoNextFree
                | Self::GoLarge
        )
    }

    /// It is attached as a uretprobe.
    pub fn is_return(self) -> bool {
        matches!(self, Self::AllocReturn | Self::PythonContext)
    }
}

/// One probe to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Path under which the file can be opened from here.
    pub path: PathBuf,
    /// Where in the file.
    pub file_offset: u64,
    /// Where in the file the function begins.
    pub entry_offset: u64,
    /// What runs there.
    pub program: Program,
    /// Where in the file the kernel counts who listens, 0: the probe has no such place.
    pub semaphore: u64,
    /// The attach cookie, see [`Cookie`]. For handlers its allocator byte is the index in
    /// [`Plan::handlers`].
    pub cookie: u64,
    /// The function.
    pub symbol: String,
    /// Why there.
    pub why: String,
}

/// All probes for a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The probes.
    pub probes: Vec<Probe>,
    /// Names of the request handlers found, by handler number.
    pub handlers: Vec<String>,
    /// What cannot be seen and why, one sentence each; those of the target are not repeated.
    pub limitations: Vec<String>,
}

/// Plans the probes for a target.
pub fn plan(target: &Target, options: &PlanOptions) -> Plan {
    let mut planner = Planner {
        plan: Plan::default(),
        long_nops: kernel_emulates_long_nops(),
    };
    if options.allocations && !planner.usdt(target) {
        planner.allocators(target);
    }
    if options.tasks {
        for task in &target.runtime.tasks {
            let module = &target.modules[task.module];
            let needs = Needs {
                arguments: vec![0],
                ..planner.needs()
            };
            let place = place(module, &task.symbol, task.vaddr, task.size, &needs);
            let cookie = Cookie::new(
                0,
                Cookie::NONE,
                Cookie::NONE,
                place.argument(0),
                0,
                place.pushed,
            );
            planner.add(
                module,
                Program::TaskPoll,
                &task.symbol,
                task.vaddr,
                &place,
                cookie,
            );
        }
    }
    if options.tasks {
        planner.streams(target);
    }
    if options.tasks
        && let Some(python) = &target.runtime.python
        && let Some(copy) = &python.context_copy
    {
        let module = &target.modules[copy.module];
        let needs = Needs {
            returns: true,
            ..planner.needs()
        };
        let place = place(module, &copy.symbol, copy.vaddr, copy.size, &needs);
        planner.add_at(
            module,
            Program::PythonContext,
            &copy.symbol,
            copy.vaddr,
            &place,
            0,
        );
    }
    if options.tasks
        && let Some(program) = &target.runtime.go
    {
        planner.go(&target.modules[0], program, options.allocations);
    }
    if !options.handlers.is_empty() {
        planner.handlers(target, &options.handlers);
    }
    for module in &target.modules {
        module.elf.release();
    }
    planner.plan
}

/// Since 6.16; asked of 6.17 on, which certainly has it.
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

struct Planner {
    plan: Plan,
    long_nops: bool,
}

impl Planner {
    fn needs(&self) -> Needs {
        Needs {
            long_nops: self.long_nops,
            ..Needs::default()
        }
    }

    fn add(
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

    fn add_at(
        &mut self,
        module: &Module,
        program: Program,
        symbol: &str,
        vaddr: u64,
        place: &Place,
        cookie: u64,
    ) {
        let Some(file_offset) = module.elf.file_offset(vaddr + place.offset) else {
            let name = &module.name;
            self.plan
                .limitations
                .push(format!("{symbol} of {name} lies outside of its code"));
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

fn needs_of(function: &Function, long_nops: bool) -> Needs {
    let free = function.shape == shape::FREE;
    Needs {
        arguments: function.arguments().collect(),
        null_is_nothing: free.then_some(function.pointer),
        returns: !free,
        long_nops,
    }
}

fn place(module: &Module, symbol: &str, vaddr: u64, size: u64, needs: &Needs) -> Place {
    // without a size the next function may be read too: its loops cannot lead in here
    let len = if size == 0 {
        64
    } else {
        size.min(MAX_FUNCTION)
    };
    let bytes = module.elf.at(vaddr, len as usize).unwrap_or_default();
    prologue::choose(symbol, bytes, vaddr, needs)
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
