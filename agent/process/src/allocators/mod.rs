//! The known allocators, as data: one file each, one line each in [`TABLE`].

mod custom;
mod functions;
mod glibc;
mod jemalloc;
mod mimalloc;
mod musl;
mod snmalloc;
mod tcmalloc;

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::shape;

use crate::{elf::Symbol, module::Module};

pub use functions::{Allocator, Function};

/// All allocators. The index is the allocator number in cookies and blocks. The last one takes
/// definitions of `malloc` that no other row matches.
pub static TABLE: &[&Allocator] = &[
    &glibc::GLIBC,
    &musl::MUSL,
    &jemalloc::JEMALLOC,
    &mimalloc::MIMALLOC,
    &tcmalloc::TCMALLOC,
    &snmalloc::SNMALLOC,
    &custom::CUSTOM,
];

/// A function found in a module.
#[derive(Clone, Debug)]
pub struct ResolvedFunction {
    /// Its row in the table.
    pub function: &'static Function,
    /// Its name without prefix.
    pub name: &'static str,
    /// Its symbol. Aliases at the same address are probed once.
    pub symbol: String,
    /// Address in the file.
    pub vaddr: u64,
    /// Size in bytes, 0 when unknown.
    pub size: u64,
}

/// An allocator that a target uses, in one module.
#[derive(Clone, Debug)]
pub struct AllocatorInstance {
    /// Its name in reports.
    pub name: &'static str,
    /// Row of [`TABLE`].
    pub number: u8,
    /// Index of the module in [`crate::Inspected::modules`].
    pub module: usize,
    /// Its functions, each address once.
    pub functions: Vec<ResolvedFunction>,
}

/// Finds the allocators in use: for C names the first definition in lookup order, for prefixed
/// names all of them.
pub(super) fn find(modules: &[Module], order: &[usize]) -> Vec<AllocatorInstance> {
    let names = Names::new();
    let mut taken: HashSet<&'static str> = HashSet::new();
    let mut found = Vec::new();
    for &index in order {
        let module = &modules[index];
        let defined = names.defined_in(module);
        module.elf.release();
        if defined.is_empty() {
            continue;
        }
        let marked = |a: &Allocator| a.markers.iter().any(|m| defined.contains_key(m));
        let mut rows: Vec<usize> = (0..TABLE.len()).filter(|row| marked(TABLE[*row])).collect();
        let foreign = ["malloc", "calloc", "free"]
            .iter()
            .any(|n| defined.contains_key(n));
        if rows.is_empty() && foreign {
            rows.push(TABLE.len() - 1);
        }
        // A program may have jemalloc and a static glibc in one file. The marker of another
        // allocator means that its definitions precede those of the C library.
        rows.sort_by_key(|row| (*row < 2, *row));
        let mut addresses = HashSet::new();
        let mut own = HashSet::new();
        for row in rows {
            let mut functions = Vec::new();
            for (prefix, function) in TABLE[row].all() {
                let symbol = format!("{prefix}{}", function.name);
                let Some(place) = defined.get(symbol.as_str()) else {
                    continue;
                };
                // only the C names can be interposed
                if prefix.is_empty() && taken.contains(function.name) {
                    continue;
                }
                // the dynamic linker cannot see a local symbol of a library
                if prefix.is_empty() && !place.dynamic && !module.main {
                    continue;
                }
                if prefix.is_empty() {
                    own.insert(function.name);
                }
                if addresses.insert(place.address) {
                    let (vaddr, size) = (place.address, place.size);
                    let name = function.name;
                    functions.push(ResolvedFunction {
                        function,
                        name,
                        symbol,
                        vaddr,
                        size,
                    });
                }
            }
            if functions.iter().any(|f| f.function.shape != shape::FREE) {
                let (name, number) = (TABLE[row].name, row as u8);
                found.push(AllocatorInstance {
                    name,
                    number,
                    module: index,
                    functions,
                });
            }
        }
        taken.extend(own);
    }
    found
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: u64,
    size: u64,
    dynamic: bool,
}

/// All names of the table, so that a symbol table is walked once.
struct Names(HashSet<String>);

impl Names {
    fn new() -> Self {
        let mut names = HashSet::new();
        for allocator in TABLE {
            for marker in allocator.markers {
                names.insert((*marker).to_string());
            }
            for (prefix, function) in allocator.all() {
                names.insert(format!("{prefix}{}", function.name));
            }
        }
        Self(names)
    }

    fn defined_in(&self, module: &Module) -> HashMap<&str, Place> {
        let mut defined: HashMap<&str, Place> = HashMap::new();
        module.elf.functions(
            |Symbol {
                 name,
                 address,
                 size,
                 dynamic,
             }| {
                if address != 0
                    && let Some(name) = self.0.get(name)
                {
                    // `.dynsym` is read first: other modules bind to its symbols.
                    defined.entry(name).or_insert(Place {
                        address,
                        size,
                        dynamic,
                    });
                }
            },
        );
        defined
    }
}

#[cfg(test)]
mod tests {
    use heaptide_ebpf::Cookie;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        assert_eq!(TABLE.last().unwrap().name, "custom");
        for allocator in TABLE {
            let all: Vec<_> = allocator.all().collect();
            assert!(
                all.iter().any(|(_, f)| f.shape == shape::FREE),
                "{}",
                allocator.name
            );
            for (_, f) in all {
                assert!(f.arguments().all(|a| a < 4), "{}", f.name);
                let needs_pointer = f.shape != shape::ALLOC;
                assert_eq!(f.pointer != Cookie::NONE, needs_pointer, "{}", f.name);
                // A sized free has a size too.
                assert!(
                    f.size != Cookie::NONE || f.shape == shape::FREE,
                    "{}",
                    f.name
                );
            }
        }
    }
}
