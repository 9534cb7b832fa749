//! Who is observed: a process's identity, its mapped binaries, allocators and runtime, read from
//! `/proc` and the ELF files. Nothing is attached and nothing written.

pub mod allocators;
pub mod elf;
mod limits;
mod link;
mod list;
pub mod maps;
pub mod memory;
pub mod notes;
pub mod process;
pub mod runtimes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use allocators::AllocatorInstance;
pub use elf::{Elf, Section, Segment, Symbol};
pub use limits::limits;
pub use list::{ProcessRow, list};
pub use maps::Mapping;
pub use process::cpu_seconds;
pub use runtimes::RuntimeMatch;

use heaptide_judge::events::TargetInfo;

/// Why a process cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No process has this pid.
    #[error("no process has pid {pid}: check the pid, or use `heaptide ps` to find it")]
    NoSuchProcess {
        /// The pid asked for.
        pid: u32,
    },
    /// The kernel's own thread: it has no user memory.
    #[error("pid {pid} ({name}) is a kernel thread: it has no user memory that could leak")]
    KernelThread {
        /// The pid asked for.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// A 32-bit program.
    #[error(
        "pid {pid} ({exe}) is a 32-bit process: heaptide knows only the x86-64 calling convention"
    )]
    ThirtyTwoBit {
        /// The pid asked for.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// A program for another machine, as under user-mode emulation.
    #[error("pid {pid} ({exe}) is not an x86-64 ELF program: heaptide knows no other")]
    OtherMachine {
        /// The pid asked for.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// `/proc` refused.
    #[error("not permitted to read {what} of pid {pid}: {capability} is missing (run as root)")]
    NotPermitted {
        /// The pid asked for.
        pid: u32,
        /// The file of `/proc/PID` that was refused.
        what: &'static str,
        /// The capability that would have allowed it.
        capability: &'static str,
    },
    /// The process ended while it was being read.
    #[error("pid {pid} ended while heaptide was reading it")]
    Ended {
        /// The pid asked for.
        pid: u32,
    },
    /// Something else failed.
    #[error("cannot read {what} of pid {pid}: {source}")]
    Io {
        /// The pid asked for.
        pid: u32,
        /// What was being read.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A mapped ELF file of the target.
#[derive(Clone, Debug)]
pub struct Module {
    /// Path as the target sees it.
    pub path: String,
    /// Base name, for people.
    pub name: String,
    /// Path under which this very file can be opened from here.
    pub file: PathBuf,
    /// Device and inode: the same file mapped twice is one module.
    pub inode: (u64, u64),
    /// What to add to an address of the file to get the address in memory.
    pub bias: u64,
    /// Lowest mapped address.
    pub start: u64,
    /// End of the highest mapping.
    pub end: u64,
    /// It is the main executable.
    pub main: bool,
    /// The file is gone from its path; `file` still reaches it while the process lives.
    pub deleted: bool,
    /// The parsed file, while an inspection is going on and shared with its results.
    pub elf: Arc<Elf>,
}

/// One process to observe.
#[derive(Clone, Debug)]
pub struct Target {
    /// What outputs say of it.
    pub info: TargetInfo,
    /// Thread ids at the time of the inspection.
    pub threads: Vec<u32>,
    /// Its mappings.
    pub mappings: Vec<Mapping>,
    /// Its mapped ELF files; the main executable first.
    pub modules: Vec<Module>,
    /// Allocators that it really uses.
    pub allocators: Vec<AllocatorInstance>,
    /// The runtime that runs its requests.
    pub runtime: RuntimeMatch,
}

impl Target {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.info.pid
    }

    /// The same process still lives: a reused pid has another start time.
    pub fn is_alive(&self) -> bool {
        process::stat(self.info.pid)
            .is_ok_and(|stat| stat.start_ticks == self.info.start_ticks && !stat.dead())
    }
}

/// Reads everything about `pid` that planning needs.
pub fn inspect(pid: u32) -> Result<Target, TargetError> {
    let stat = process::stat(pid)?;
    if stat.dead() {
        return Err(TargetError::Ended { pid });
    }
    if stat.kernel_thread() {
        return Err(TargetError::KernelThread {
            pid,
            name: stat.comm,
        });
    }
    let exe = process::exe(pid)?;
    match elf::class_of(pid)? {
        elf::Class::X86_64 => {}
        elf::Class::ThirtyTwoBit => return Err(TargetError::ThirtyTwoBit { pid, exe }),
        elf::Class::Other => return Err(TargetError::OtherMachine { pid, exe }),
    }
    let mappings = maps::read(pid)?;
    if mappings.is_empty() {
        return Err(TargetError::Ended { pid });
    }
    let mut limitations = Vec::new();
    let modules = modules(pid, &mappings, &mut limitations);
    let order = link::order(pid, &modules);
    let allocators = allocators::find(&modules, &order);
    let runtime = runtimes::recognise(pid, &exe, &modules);
    if allocators.is_empty() {
        limitations.push(missing_allocator(&exe, &modules, &runtime));
    }
    limitations.extend(runtime.limitation.clone());
    if let Some(main) = modules
        .first()
        .filter(|m| !runtime.own_heap && !m.elf.has_lines())
    {
        limitations.push(format!(
            "{} was built without line tables: functions are named without file and line, and what \
             was inlined shows as its caller",
            main.name
        ));
    }
    let threads = process::threads(pid)?;
    let target = Target {
        info: TargetInfo {
            pid,
            start_ticks: stat.start_ticks,
            exe,
            runtime: runtime.name.clone(),
            allocators: allocators.iter().map(|a| a.name.to_string()).collect(),
            limitations,
            mode: String::new(),
        },
        threads,
        mappings,
        modules,
        allocators,
        runtime,
    };
    // an exec or a reused pid in between would have mixed two programs
    if target.is_alive() {
        Ok(target)
    } else {
        Err(TargetError::Ended { pid })
    }
}

fn missing_allocator(exe: &str, modules: &[Module], runtime: &RuntimeMatch) -> String {
    if runtime.own_heap {
        return format!(
            "no malloc is used: {} keeps a heap of its own, allocations are not seen one by one",
            runtime.name
        );
    }
    let stripped = modules.first().is_some_and(|m| m.elf.is_stripped());
    let what = if stripped {
        "is static and stripped"
    } else {
        "defines none that is known"
    };
    format!(
        "no allocator functions were found ({exe} {what}): allocations cannot be seen, \
         only its mappings and its resident memory"
    )
}

/// The ELF files among the mappings, by the file they come from.
pub fn modules(pid: u32, mappings: &[Mapping], limitations: &mut Vec<String>) -> Vec<Module> {
    let exe_inode = process::exe_inode(pid);
    let mut files: BTreeMap<(u64, u64), Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|m| m.inode != 0) {
        files
            .entry((mapping.dev, mapping.inode))
            .or_default()
            .push(mapping);
    }
    let mut found = Vec::new();
    for (inode, parts) in files {
        let Some(code) = parts.iter().find(|m| m.executable) else {
            continue;
        };
        let file = maps::openable(pid, code);
        let elf = match Elf::open(&file) {
            Ok(elf) => Arc::new(elf),
            // a JIT's or a data file that is mapped executable is no module
            Err(elf::ElfError::NotElf { .. }) => continue,
            Err(error) => {
                limitations.push(format!("functions of {} are not seen: {error}", code.path));
                continue;
            }
        };
        let Some(bias) = elf.bias(code) else { continue };
        let first = parts.iter().find(|m| m.offset == 0).unwrap_or(code);
        found.push(Module {
            name: code
                .path
                .rsplit('/')
                .next()
                .unwrap_or(&code.path)
                .to_string(),
            path: code.path.clone(),
            file,
            inode,
            bias,
            start: parts.iter().map(|m| m.start).min().unwrap_or(first.start),
            end: parts.iter().map(|m| m.end).max().unwrap_or(first.end),
            main: exe_inode.map_or(first.start == mappings[0].start, |exe| {
                maps::inode_of(pid, code) == Some(exe)
            }),
            deleted: code.deleted,
            elf,
        });
    }
    found.sort_by_key(|m| (!m.main, m.start));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_itself() {
        let target = inspect(std::process::id()).unwrap();
        assert!(target.is_alive());
        assert!(target.modules[0].main, "{:?}", target.modules);
        assert_eq!(target.info.allocators, ["glibc"]);
        assert!(target.modules.iter().any(|m| m.name.starts_with("libc")));
        let names: Vec<_> = target.allocators[0]
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
        // memalign and aligned_alloc are one function in this libc or two, never twice the same
        let mut places: Vec<_> = target.allocators[0]
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
            Err(TargetError::NoSuchProcess { .. })
        ));
        // pid 2 is kthreadd, unless a pid namespace hides it
        if process::stat(2).is_ok_and(|stat| stat.comm == "kthreadd") {
            assert!(matches!(inspect(2), Err(TargetError::KernelThread { .. })));
        }
    }
}
