//! The allocators heaptide knows, as data: a file each, a line each in [`TABLE`].

mod custom;
mod glibc;
mod jemalloc;
mod mimalloc;
mod musl;
mod snmalloc;
mod tcmalloc;

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::{Cookie, shape};

use crate::{elf::Symbol, module::Module};

/// All allocators; the index is the allocator number in cookies and blocks. The last one takes
/// definitions of `malloc` that no other row claims.
pub static TABLE: &[&Allocator] = &[
    &glibc::GLIBC,
    &musl::MUSL,
    &jemalloc::JEMALLOC,
    &mimalloc::MIMALLOC,
    &tcmalloc::TCMALLOC,
    &snmalloc::SNMALLOC,
    &custom::CUSTOM,
];

/// An allocator: a set of functions that hand out and take back memory.
#[derive(Debug)]
pub struct Allocator {
    /// Its name in reports.
    pub name: &'static str,
    /// A module that defines one of these is this allocator's.
    pub markers: &'static [&'static str],
    /// What stands before its functions' names, `""` for the C library's own names.
    pub prefixes: &'static [&'static str],
    /// Its functions.
    pub functions: &'static [&'static [Function]],
}

/// A function of an allocator and how it is called; arguments count from 0.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Name without prefix.
    pub name: &'static str,
    /// One of [`shape`].
    pub shape: u8,
    /// Argument with the size, or [`Cookie::NONE`].
    pub size: u8,
    /// Argument with the second factor of the size, or [`Cookie::NONE`].
    pub factor: u8,
    /// Argument with the pointer, or [`Cookie::NONE`].
    pub pointer: u8,
    /// It throws when there is no memory: no return probe may be on it.
    pub throws: bool,
}

impl Function {
    /// `name(.., size, ..) -> pointer`.
    const fn alloc(name: &'static str, size: u8) -> Self {
        let none = Cookie::NONE;
        Self {
            name,
            shape: shape::ALLOC,
            size,
            factor: none,
            pointer: none,
            throws: false,
        }
    }
    /// `name(.., a, b, ..) -> pointer` to `a * b` bytes.
    const fn array(name: &'static str, size: u8, factor: u8) -> Self {
        Self {
            name,
            shape: shape::ALLOC,
            size,
            factor,
            pointer: Cookie::NONE,
            throws: false,
        }
    }
    /// `name(pointer, .., size) -> pointer`.
    const fn realloc(name: &'static str, pointer: u8, size: u8) -> Self {
        Self {
            name,
            shape: shape::REALLOC,
            size,
            factor: Cookie::NONE,
            pointer,
            throws: false,
        }
    }
    /// `name(pointer, .., a, b) -> pointer` to `a * b` bytes.
    const fn realloc_array(name: &'static str, pointer: u8, size: u8, factor: u8) -> Self {
        Self {
            name,
            shape: shape::REALLOC,
            size,
            factor,
            pointer,
            throws: false,
        }
    }
    /// `name(&pointer, .., size) -> 0 | errno`.
    const fn out(name: &'static str, pointer: u8, size: u8) -> Self {
        Self {
            name,
            shape: shape::ALLOC_OUT,
            size,
            factor: Cookie::NONE,
            pointer,
            throws: false,
        }
    }
    /// `name(pointer, ..)`.
    const fn free(name: &'static str, pointer: u8) -> Self {
        let none = Cookie::NONE;
        Self {
            name,
            shape: shape::FREE,
            size: none,
            factor: none,
            pointer,
            throws: false,
        }
    }
    /// The same function, one that may throw.
    const fn throwing(self) -> Self {
        Self {
            throws: true,
            ..self
        }
    }
    /// Arguments that the kernel program reads.
    pub fn arguments(&self) -> impl Iterator<Item = u8> + use<> {
        [self.size, self.factor, self.pointer]
            .into_iter()
            .filter(|a| *a != Cookie::NONE)
    }
}

/// The C library's family under its standard names.
static STANDARD: &[Function] = &[
    Function::alloc("malloc", 0),
    Function::array("calloc", 0, 1),
    Function::realloc("realloc", 0, 1),
    Function::realloc_array("reallocarray", 0, 1, 2),
    Function::alloc("memalign", 1),
    Function::alloc("aligned_alloc", 1),
    Function::out("posix_memalign", 0, 2),
    Function::alloc("valloc", 0),
    Function::alloc("pvalloc", 0),
    Function::free("free", 0),
    Function::free("cfree", 0),
];

/// C++ `new` and `delete`, where the allocator itself defines them instead of going through malloc.
static CPLUSPLUS: &[Function] = &[
    Function::alloc("_Znwm", 0).throwing(),
    Function::alloc("_Znam", 0).throwing(),
    Function::alloc("_ZnwmRKSt9nothrow_t", 0),
    Function::alloc("_ZnamRKSt9nothrow_t", 0),
    Function::alloc("_ZnwmSt11align_val_t", 0).throwing(),
    Function::alloc("_ZnamSt11align_val_t", 0).throwing(),
    Function::alloc("_ZnwmSt11align_val_tRKSt9nothrow_t", 0),
    Function::alloc("_ZnamSt11align_val_tRKSt9nothrow_t", 0),
    Function::free("_ZdlPv", 0),
    Function::free("_ZdaPv", 0),
    Function::free("_ZdlPvRKSt9nothrow_t", 0),
    Function::free("_ZdaPvRKSt9nothrow_t", 0),
    Function::free("_ZdlPvm", 0),
    Function::free("_ZdaPvm", 0),
    Function::free("_ZdlPvSt11align_val_t", 0),
    Function::free("_ZdaPvSt11align_val_t", 0),
    Function::free("_ZdlPvmSt11align_val_t", 0),
    Function::free("_ZdaPvmSt11align_val_t", 0),
    Function::free("_ZdlPvSt11align_val_tRKSt9nothrow_t", 0),
    Function::free("_ZdaPvSt11align_val_tRKSt9nothrow_t", 0),
];

/// A function found in a module.
#[derive(Clone, Debug)]
pub struct ResolvedFunction {
    /// Its row in the table.
    pub function: &'static Function,
    /// Its name without prefix.
    pub name: &'static str,
    /// Its symbol; aliases at the same address are not probed twice.
    pub symbol: String,
    /// Address in the file's own terms.
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

/// Finds the allocators that are used: of each C name the first definition in look-up order, of
/// prefixed names every one.
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
        // a program with jemalloc and a static glibc in one file: who has the marker of another
        // allocator has put it before the C library
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

impl Allocator {
    /// Its functions under each prefix.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static Function)> + use<> {
        let functions = self.functions;
        let prefixes = self.prefixes;
        prefixes.iter().flat_map(move |p| {
            functions
                .iter()
                .flat_map(move |set| set.iter().map(move |f| (*p, f)))
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: u64,
    size: u64,
    dynamic: bool,
}

/// Every name of the table, so that a symbol table is walked once.
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

    fn defined_in<'a>(&self, module: &'a Module) -> HashMap<&'a str, Place> {
        let mut defined: HashMap<&'a str, Place> = HashMap::new();
        module.elf.functions(
            |Symbol {
                 name,
                 address,
                 size,
                 dynamic,
             }| {
                if address != 0 && self.0.contains(name) {
                    // .dynsym comes first and is what others bind to
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
                assert_eq!(f.size != Cookie::NONE, f.shape != shape::FREE, "{}", f.name);
            }
        }
    }
}
