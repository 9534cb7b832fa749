//! `CPython`: recognised by its runtime structure, or else by the name of the executable or
//! libpython.

mod census;
mod code;
mod interpreter;
mod known;
mod layout;
mod lengths;
mod lines;
mod memory;
mod objects;
mod observer;
mod offsets;
mod opcodes;
mod paths;
mod proof;
mod reader;
mod sizes;
mod stacks;
mod stores;
mod threads;
mod types;
mod variables;
mod version;
mod versions;
mod walk;
mod writers;

use std::sync::{Arc, LazyLock};

use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::FunctionAt;
use heaptide_process::{Inspected, Module};
use regex::Regex;

use crate::door::{Recognised, Runtime};
use crate::threads::Unobserved;
use interpreter::{CONTEXT_COPY, Interpreter};
use layout::Layout;
use observer::CPythonObserver;

static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:lib)?python(\d+\.\d+)?[a-z]*(?:\.so.*|\d)?$").ok());
static PYPY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:lib)?pypy(\d+(?:\.\d+)?)?(?:-c)?(?:\.so.*)?$").ok());

/// The limitation of all versions while their small blocks are not seen.
const ARENAS: &str = "Python objects up to 512 bytes are in CPython's own arenas: allocations \
     are seen of larger ones and C extensions only";

/// `CPython`.
pub(crate) struct CPython;

impl Runtime for CPython {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        recognise(process)
    }

    fn programs(&self) -> &'static [Program] {
        &[observer::CONTEXT_COPIED]
    }

    fn known(&self) -> (&'static str, Vec<String>) {
        ("CPython", known_versions())
    }
}

/// The versions in the table.
fn known_versions() -> Vec<String> {
    versions::TABLE
        .iter()
        .map(|layout| format!("3.{}", layout.minor))
        .collect()
}

fn recognise(process: &Inspected) -> Option<Recognised> {
    if let Some(pypy) = pypy(process) {
        return Some(pypy);
    }
    // libpython first: a program that embeds it has no runtime structure of its own
    let found = process
        .modules
        .iter()
        .enumerate()
        .find_map(|(index, module)| Some((index, module, runtime_address(module)?)));
    let Some((index, module, address)) = found else {
        return by_name(process);
    };
    let build = version::Build::of(module, address);
    module.elf.release();
    let named = name_match(process).and_then(|named| named.version);
    let mut limitations = vec![ARENAS.to_string()];
    let free_threaded = build.free_threaded || free_threaded_name(process);
    let mut python = None;
    match (build.version, free_threaded) {
        (Some(version), true) => limitations.push(format!(
            "CPython {version} is a free-threaded build: its containers and stacks are not read \
             (heaptide supports only builds with a GIL)"
        )),
        (Some(version), false) => {
            let interpreter = |layout: Arc<Layout>| Interpreter {
                version,
                runtime: address.wrapping_add(module.bias),
                layout,
                context_copy: context_copy(index, module),
            };
            let offsets = build.offsets.as_ref();
            if let Some(layout) = known::of(version, offsets) {
                python = Some(interpreter(layout));
            } else if let Some(nearest) = known::nearest(version, offsets).map(interpreter)
                && proof::proved(process.pid, process.start_ticks, &nearest)
            {
                limitations.push(format!(
                    "CPython {version} is read with the layout of 3.{}, the nearest known \
                     version: its objects and functions match it",
                    nearest.layout.minor
                ));
                python = Some(nearest);
            } else {
                limitations.push(unknown(&version.to_string()));
            }
        }
        (None, _) => limitations.push(format!(
            "which build of CPython{} this is cannot be read in its program: its containers and \
             stacks are not seen",
            named
                .as_deref()
                .map_or(String::new(), |named| format!(" {named}"))
        )),
    }
    if process.modules.iter().any(|m| m.path.contains("/gevent/")) {
        limitations.push(
            "gevent is in use: its greenlets share a thread, but requests are bound to threads \
             and may be confused"
                .to_string(),
        );
    }
    Some(Recognised {
        name: match (build.version, named) {
            (Some(version), _) => format!("cpython {version}"),
            (None, Some(named)) => format!("cpython {named}"),
            (None, None) => "cpython".to_string(),
        },
        own_heap: true,
        collected: false,
        wide_strings: false,
        limitations: vec![limitations.join("; ")],
        observer: match python {
            Some(python) => Box::new(CPythonObserver::new(process, python)),
            None => Box::new(Unobserved),
        },
    })
}

fn unknown(version: &str) -> String {
    format!(
        "CPython {version} is not one of the versions whose memory heaptide can read ({}): its \
         containers and stacks are not seen",
        known_versions().join(", ")
    )
}

/// Address of `_PyRuntime` in the file. Builds since 3.8 have it in its own section, which survives
/// stripping.
fn runtime_address(module: &Module) -> Option<u64> {
    let symbol = module.elf.data_symbol("_PyRuntime");
    symbol.or_else(|| Some(module.elf.section(".PyRuntime")?.address))
}

/// [`CONTEXT_COPY`] is exported by all builds.
fn context_copy(index: usize, module: &Module) -> Option<FunctionAt> {
    let mut found = None;
    module.elf.functions(|symbol| {
        if symbol.name == CONTEXT_COPY && found.is_none() {
            found = Some(FunctionAt {
                module: index,
                symbol: CONTEXT_COPY.to_owned(),
                vaddr: symbol.address,
                size: symbol.size,
            });
        }
    });
    found
}

fn base_names(process: &Inspected) -> impl Iterator<Item = &str> {
    let exe = process.exe.rsplit('/').next().unwrap_or(&process.exe);
    std::iter::once(exe).chain(process.modules.iter().map(|m| m.name.as_str()))
}

/// A file with an interpreter's name.
struct Named {
    /// The version in that name.
    version: Option<String>,
}

/// Matches file names of interpreters.
fn name_match(process: &Inspected) -> Option<Named> {
    let name = NAME.as_ref()?;
    let versions: Vec<Option<String>> = base_names(process)
        .filter_map(|n| name.captures(n))
        .map(|found| found.get(1).map(|v| v.as_str().to_string()))
        .collect();
    let first = versions.first()?.clone();
    Some(Named {
        version: versions.into_iter().flatten().next().or(first),
    })
}

fn free_threaded_name(process: &Inspected) -> bool {
    base_names(process).any(|n| {
        let stem = n.split(".so").next().unwrap_or(n);
        stem.trim_start_matches("lib")
            .strip_prefix("python3.")
            .is_some_and(|rest| rest.ends_with('t') && rest[..rest.len() - 1].parse::<u8>().is_ok())
    })
}

/// An interpreter without a known runtime structure: before 3.8, or sections stripped.
fn by_name(process: &Inspected) -> Option<Recognised> {
    let version = name_match(process)?.version;
    let said = match &version {
        // The version is no reason: its files could not be read, or have no symbols and sections.
        Some(version) if known_versions().contains(version) => format!(
            "no file of CPython {version} that can be read has its `_PyRuntime`: its containers and stacks are not seen"
        ),
        Some(version) => unknown(version),
        None => unknown("of unknown version"),
    };
    Some(Recognised {
        name: match &version {
            Some(version) => format!("cpython {version}"),
            None => "cpython".to_string(),
        },
        own_heap: true,
        collected: false,
        wide_strings: false,
        limitations: vec![format!("{ARENAS}; {said}")],
        observer: Box::new(Unobserved),
    })
}

fn pypy(process: &Inspected) -> Option<Recognised> {
    let name = PYPY.as_ref()?;
    let found = base_names(process).find_map(|n| name.captures(n))?;
    Some(Recognised {
        name: match found.get(1) {
            Some(version) => format!("pypy {}", version.as_str()),
            None => "pypy".to_string(),
        },
        own_heap: true,
        collected: true,
        wide_strings: false,
        limitations: vec![
            "PyPy moves objects in its own heap: allocations, containers and Python stacks are \
             not seen, only requests and process memory"
                .to_string(),
        ],
        observer: Box::new(Unobserved),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of which only the executable's path is known.
    fn only(exe: &str) -> Inspected {
        Inspected {
            pid: 0,
            start_ticks: 0,
            exe: exe.to_owned(),
            threads: Vec::new(),
            mappings: Vec::new(),
            modules: Vec::new(),
            allocators: Vec::new(),
            limitations: Vec::new(),
        }
    }

    fn named(exe: &str) -> Option<Recognised> {
        recognise(&only(exe))
    }

    #[test]
    fn names_without_a_structure_to_read() {
        for (exe, name) in [
            ("/usr/bin/python3.11", Some("cpython 3.11")),
            ("/opt/python/bin/python3", Some("cpython")),
            ("/usr/bin/pypy3", Some("pypy 3")),
            ("/usr/bin/pypy3.10", Some("pypy 3.10")),
            ("/usr/bin/pythonic-tool", None),
        ] {
            let found = named(exe);
            assert_eq!(found.as_ref().map(|m| m.name.as_str()), name, "{exe}");
            let Some(found) = found else { continue };
            assert!(!found.observer.settings().readable);
            let said = found.limitations.join("; ");
            assert!(said.contains("not seen"), "{said}");
        }
    }

    #[test]
    fn free_threaded_builds_have_a_t() {
        let is = |exe| free_threaded_name(&only(exe));
        assert!(is("/usr/bin/python3.13t"));
        assert!(!is("/usr/bin/python3.13"));
        assert!(!is("/usr/bin/python3-dbg-test"));
    }
}
