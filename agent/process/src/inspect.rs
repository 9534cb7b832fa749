//! Inspection of one process: identity, mappings, modules, allocators. Nothing is attached or written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    allocators::{self, AllocatorInstance},
    elf,
    error::ProcessError,
    files::{Budget, caps},
    identity, link,
    maps::{self, Mapping},
    module::{Module, modules_on},
};

/// An inspected process.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Process id.
    pub pid: u32,
    /// Its start in clock ticks since boot (`/proc/PID/stat`, field 22). It differs if the pid is reused.
    pub start_ticks: u64,
    /// Path of its executable in its own root.
    pub exe: String,
    /// Thread ids at the time of the inspection.
    pub threads: Vec<u32>,
    /// Its mappings.
    pub mappings: Vec<Mapping>,
    /// Its mapped ELF files, the main executable first.
    pub modules: Vec<Module>,
    /// Allocators in use.
    pub allocators: Vec<AllocatorInstance>,
    /// What could not be read, one sentence each.
    pub limitations: Vec<String>,
}

impl Inspected {
    /// The same process is still alive: a reused pid has another start time.
    pub fn is_alive(&self) -> bool {
        identity::stat(self.pid)
            .is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.dead())
    }

    /// Allows so much time for further work on its files; `None`: as much as it takes.
    pub fn allow(&self, time: Option<Duration>) {
        let deadline = time.map(|time| Instant::now() + time);
        for module in &self.modules {
            module.elf.set_deadline(deadline);
        }
    }

    /// The limitation of a process without a known allocator.
    pub fn without_allocator(&self) -> String {
        let exe = &self.exe;
        let stripped = self.modules.first().is_some_and(|m| m.elf.is_stripped());
        let what = if stripped {
            "is static and stripped"
        } else {
            "has no known allocator"
        };
        format!(
            "no allocator functions were found ({exe} {what}): allocations cannot be seen, only \
             mappings and resident memory"
        )
    }

    /// The limitation of a program without line information; `None` if it has some.
    pub fn without_lines(&self) -> Option<String> {
        let main = self.modules.first().filter(|m| !m.elf.has_lines())?;
        Some(format!(
            "{} was built without line tables: functions are named without file and line, and \
             inlined functions appear as their callers",
            main.name
        ))
    }

    /// End of its heap mapping: the current program break.
    pub fn heap_end(&self) -> Option<u64> {
        self.mappings
            .iter()
            .find(|mapping| mapping.path == "[heap]")
            .map(|heap| heap.end)
    }
}

/// Reads what recognising a runtime and planning need.
pub fn inspect(pid: u32) -> Result<Inspected, ProcessError> {
    inspect_until(pid, Instant::now() + caps::INSPECTION)
}

/// The same with a deadline. Files not read until then are left out, and a limitation says so.
pub fn inspect_until(pid: u32, deadline: Instant) -> Result<Inspected, ProcessError> {
    inspect_on(pid, &Budget::until(deadline))
}

fn inspect_on(pid: u32, budget: &Arc<Budget>) -> Result<Inspected, ProcessError> {
    let stat = identity::stat(pid)?;
    if stat.dead() {
        return Err(ProcessError::Ended { pid });
    }
    if stat.kernel_thread() {
        return Err(ProcessError::KernelThread {
            pid,
            name: stat.comm,
        });
    }
    let exe = identity::exe(pid)?;
    match elf::class_of(pid)? {
        elf::Class::X86_64 => {}
        elf::Class::ThirtyTwoBit => return Err(ProcessError::ThirtyTwoBit { pid, exe }),
        elf::Class::Other => return Err(ProcessError::OtherMachine { pid, exe }),
    }
    let mappings = maps::read(pid)?;
    if mappings.is_empty() {
        return Err(ProcessError::Ended { pid });
    }
    let mut limitations = Vec::new();
    let modules = modules_on(pid, &mappings, budget, &mut limitations);
    let order = link::order(pid, &modules);
    let allocators = allocators::find(&modules, &order);
    limitations.extend(modules.iter().flat_map(|m| m.elf.limitations()));
    let process = Inspected {
        pid,
        start_ticks: stat.start_ticks,
        exe,
        threads: identity::threads(pid)?,
        mappings,
        modules,
        allocators,
        limitations,
    };
    // An exec or pid reuse in between would mix two programs.
    if process.is_alive() {
        Ok(process)
    } else {
        Err(ProcessError::Ended { pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_itself() {
        let process = inspect(std::process::id()).unwrap();
        assert!(process.is_alive());
        assert!(process.modules[0].main, "{:?}", process.modules);
        assert_eq!(process.allocators[0].name, "glibc");
        assert!(process.modules.iter().any(|m| m.name.starts_with("libc")));
        let names: Vec<_> = process.allocators[0]
            .functions
            .iter()
            .map(|f| f.name)
            .collect();
        for name in [
            "malloc",
            "calloc",
            "realloc",
            "free",
            "posix_memalign",
            "memalign",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        // memalign and aligned_alloc may be the same function in this libc
        let mut places: Vec<_> = process.allocators[0]
            .functions
            .iter()
            .map(|f| f.vaddr)
            .collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), names.len());
    }

    #[test]
    fn names_what_cannot_be_observed() {
        assert!(matches!(
            inspect(0x3f_ffff),
            Err(ProcessError::NoSuchProcess { .. })
        ));
        // pid 2 is kthreadd, unless a pid namespace hides it
        if identity::stat(2).is_ok_and(|stat| stat.comm == "kthreadd") {
            assert!(matches!(inspect(2), Err(ProcessError::KernelThread { .. })));
        }
    }
}
