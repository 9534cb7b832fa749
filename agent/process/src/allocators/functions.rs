//! Data types for allocators: their functions and how these are called.

use heaptide_ebpf::{Cookie, shape};

/// An allocator: a set of functions that allocate and free memory.
#[derive(Debug)]
pub struct Allocator {
    /// Its name in reports.
    pub name: &'static str,
    /// A module that defines one of these symbols has this allocator.
    pub markers: &'static [&'static str],
    /// Prefixes of its function names; `""` for the C library's names.
    pub prefixes: &'static [&'static str],
    /// Its functions.
    pub functions: &'static [&'static [Function]],
    /// The word before a block is the size of its chunk, with flags in the low three bits.
    pub size_before_block: bool,
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
    /// It throws when memory is exhausted, so it must not get a return probe.
    pub throws: bool,
}

impl Function {
    /// `name(.., size, ..) -> pointer`.
    pub(super) const fn alloc(name: &'static str, size: u8) -> Self {
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
    pub(super) const fn array(name: &'static str, size: u8, factor: u8) -> Self {
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
    pub(super) const fn realloc(name: &'static str, pointer: u8, size: u8) -> Self {
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
    pub(super) const fn realloc_array(
        name: &'static str,
        pointer: u8,
        size: u8,
        factor: u8,
    ) -> Self {
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
    pub(super) const fn out(name: &'static str, pointer: u8, size: u8) -> Self {
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
    pub(super) const fn free(name: &'static str, pointer: u8) -> Self {
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
    /// `name(pointer, .., size, ..)`.
    pub(super) const fn sized_free(name: &'static str, pointer: u8, size: u8) -> Self {
        Self {
            size,
            ..Self::free(name, pointer)
        }
    }
    /// The same function, marked as throwing.
    pub(super) const fn throwing(self) -> Self {
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
pub(super) static STANDARD: &[Function] = &[
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

/// C++ `new` and `delete`, for allocators that define them without calling malloc.
pub(super) static CPLUSPLUS: &[Function] = &[
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
    Function::sized_free("_ZdlPvm", 0, 1),
    Function::sized_free("_ZdaPvm", 0, 1),
    Function::free("_ZdlPvSt11align_val_t", 0),
    Function::free("_ZdaPvSt11align_val_t", 0),
    Function::sized_free("_ZdlPvmSt11align_val_t", 0, 1),
    Function::sized_free("_ZdaPvmSt11align_val_t", 0, 1),
    Function::free("_ZdlPvSt11align_val_tRKSt9nothrow_t", 0),
    Function::free("_ZdaPvSt11align_val_tRKSt9nothrow_t", 0),
];
