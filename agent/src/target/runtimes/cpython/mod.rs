//! `CPython`: recognised by its runtime structure, else by the name of the executable or libpython.

mod layout;
mod version;

use std::sync::LazyLock;

use regex::Regex;

pub use layout::{FramePointer, Instance, Layout};
pub use version::Version;

use super::{Inspected, RuntimeMatch, TaskPoint};
use crate::target::Module;

/// An interpreter whose memory can be read from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its version.
    pub version: Version,
    /// Address of `_PyRuntime` in the target's memory.
    pub runtime: u64,
    /// Where fields lie in its structures.
    pub layout: Layout,
    /// [`CONTEXT_COPY`].
    pub context_copy: Option<TaskPoint>,
}

/// What is called for each new task, callback and call in a worker thread: they run in a copy of the context
/// (PEP 567) of what begins them.
pub const CONTEXT_COPY: &str = "PyContext_CopyCurrent";

static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:lib)?python(\d+\.\d+)?[a-z]*(?:\.so.*|\d)?$").ok());
static PYPY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:lib)?pypy(\d+(?:\.\d+)?)?(?:-c)?(?:\.so.*)?$").ok());

/// What holds for all of them, while their small blocks are not seen.
const ARENAS: &str = "Python objects up to 512 bytes come from CPython's own arenas: only the larger \
                      ones and C extensions are seen allocation by allocation";

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    if let Some(pypy) = pypy(inspected) {
        return Some(pypy);
    }
    // libpython before the executable: a program that embeds it has no structure of its own
    let found = inspected
        .modules
        .iter()
        .enumerate()
        .find_map(|(index, module)| Some((index, module, runtime_address(module)?)));
    let Some((index, module, address)) = found else {
        return by_name(inspected);
    };
    let build = version::Build::of(module, address);
    module.elf.release();
    let named = name_match(inspected).and_then(|named| named.version);
    let mut limitations = vec![ARENAS.to_string()];
    let free_threaded = build.free_threaded || free_threaded_name(inspected);
    let mut python = None;
    match (build.version, free_threaded) {
        (Some(version), true) => limitations.push(format!(
            "a free-threaded build of CPython {version}: its containers and its stacks are not read \
             (heaptide knows the layout of builds with a GIL only)"
        )),
        (Some(version), false) => match Layout::of(version, build.offsets.as_ref()) {
            Some(layout) => {
                python = Some(Interpreter {
                    version,
                    runtime: address.wrapping_add(module.bias),
                    layout,
                    context_copy: context_copy(index, module),
                });
            }
            None => limitations.push(unknown(&version.to_string())),
        },
        (None, _) => limitations.push(unknown(named.as_deref().unwrap_or("of unknown version"))),
    }
    if inspected
        .modules
        .iter()
        .any(|m| m.path.contains("/gevent/"))
    {
        limitations.push(
            "gevent is in use: its greenlets share one thread, requests are tied to threads and may \
             be mixed up"
                .to_string(),
        );
    }
    Some(RuntimeMatch {
        name: match (build.version, named) {
            (Some(version), _) => format!("cpython {version}"),
            (None, Some(named)) => format!("cpython {named}"),
            (None, None) => "cpython".to_string(),
        },
        own_heap: true,
        limitation: Some(limitations.join("; ")),
        python,
        ..RuntimeMatch::default()
    })
}

fn unknown(version: &str) -> String {
    format!(
        "CPython {version} is not one of the versions whose memory heaptide can read (3.11, 3.12, \
         3.13): its containers and its stacks are not seen"
    )
}

/// Address of `_PyRuntime` in the file's own terms. Builds since 3.8 put it into a section of its
/// own, which stays when all symbols are stripped.
fn runtime_address(module: &Module) -> Option<u64> {
    let symbol = module.elf.data_symbol("_PyRuntime");
    symbol.or_else(|| Some(module.elf.section(".PyRuntime")?.address))
}

/// [`CONTEXT_COPY`] is exported by all builds.
fn context_copy(index: usize, module: &Module) -> Option<TaskPoint> {
    let mut found = None;
    module.elf.functions(|symbol| {
        if symbol.name == CONTEXT_COPY && found.is_none() {
            found = Some(TaskPoint {
                module: index,
                symbol: CONTEXT_COPY.to_owned(),
                vaddr: symbol.address,
                size: symbol.size,
            });
        }
    });
    found
}

fn base_names<'a>(inspected: &'a Inspected<'_>) -> impl Iterator<Item = &'a str> {
    let exe = inspected.exe.rsplit('/').next().unwrap_or(inspected.exe);
    std::iter::once(exe).chain(inspected.modules.iter().map(|m| m.name.as_str()))
}

/// A file with the name of an interpreter.
struct Named {
    /// The version in that name.
    version: Option<String>,
}

/// Whether a file has the name of an interpreter.
fn name_match(inspected: &Inspected<'_>) -> Option<Named> {
    let name = NAME.as_ref()?;
    let versions: Vec<Option<String>> = base_names(inspected)
        .filter_map(|n| name.captures(n))
        .map(|found| found.get(1).map(|v| v.as_str().to_string()))
        .collect();
    let first = versions.first()?.clone();
    Some(Named {
        version: versions.into_iter().flatten().next().or(first),
    })
}

fn free_threaded_name(inspected: &Inspected<'_>) -> bool {
    base_names(inspected).any(|n| {
        let stem = n.split(".so").next().unwrap_or(n);
        stem.trim_start_matches("lib")
            .strip_prefix("python3.")
            .is_some_and(|rest| rest.ends_with('t') && rest[..rest.len() - 1].parse::<u8>().is_ok())
    })
}

/// An interpreter without the structure that this module reads: before 3.8, or sections stripped.
fn by_name(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let version = name_match(inspected)?.version;
    let said = version.as_deref().unwrap_or("of unknown version");
    Some(RuntimeMatch {
        name: match &version {
            Some(version) => format!("cpython {version}"),
            None => "cpython".to_string(),
        },
        own_heap: true,
        limitation: Some(format!("{ARENAS}; {}", unknown(said))),
        ..RuntimeMatch::default()
    })
}

fn pypy(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let name = PYPY.as_ref()?;
    let found = base_names(inspected).find_map(|n| name.captures(n))?;
    Some(RuntimeMatch {
        name: match found.get(1) {
            Some(version) => format!("pypy {}", version.as_str()),
            None => "pypy".to_string(),
        },
        own_heap: true,
        limitation: Some(
            "PyPy moves objects in a heap of its own: allocations, containers and Python stacks are \
             not seen, only requests and the memory of the process"
                .to_string(),
        ),
        ..RuntimeMatch::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(exe: &str) -> Option<RuntimeMatch> {
        recognise(&Inspected {
            pid: 0,
            exe,
            modules: &[],
        })
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
            assert!(found.python.is_none());
            let said = found.limitation.expect("what is not seen is said");
            assert!(said.contains("not seen"), "{said}");
        }
    }

    #[test]
    fn free_threaded_builds_have_a_t() {
        let is = |exe| {
            free_threaded_name(&Inspected {
                pid: 0,
                exe,
                modules: &[],
            })
        };
        assert!(is("/usr/bin/python3.13t"));
        assert!(!is("/usr/bin/python3.13"));
        assert!(!is("/usr/bin/python3-dbg-test"));
    }
}
