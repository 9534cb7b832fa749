//! mimalloc: as an override under the C names, and its own `mi_` functions (Rust's `mimalloc`).

use super::{Allocator, CPLUSPLUS, Function, STANDARD};

/// Its own functions; aligned ones take the size first, unlike `aligned_alloc`.
static OWN: &[Function] = &[
    Function::alloc("mi_malloc", 0),
    Function::array("mi_calloc", 0, 1),
    Function::realloc("mi_realloc", 0, 1),
    Function::free("mi_free", 0),
    Function::alloc("mi_zalloc", 0),
    Function::array("mi_mallocn", 0, 1),
    Function::realloc("mi_reallocf", 0, 1),
    Function::realloc("mi_rezalloc", 0, 1),
    Function::realloc_array("mi_reallocn", 0, 1, 2),
    Function::realloc_array("mi_reallocarray", 0, 1, 2),
    Function::alloc("mi_malloc_aligned", 0),
    Function::alloc("mi_malloc_aligned_at", 0),
    Function::alloc("mi_zalloc_aligned", 0),
    Function::alloc("mi_zalloc_aligned_at", 0),
    Function::array("mi_calloc_aligned", 0, 1),
    Function::realloc("mi_realloc_aligned", 0, 1),
    Function::realloc("mi_realloc_aligned_at", 0, 1),
    Function::realloc("mi_rezalloc_aligned", 0, 1),
    Function::alloc("mi_memalign", 1),
    Function::alloc("mi_aligned_alloc", 1),
    Function::out("mi_posix_memalign", 0, 2),
    Function::alloc("mi_valloc", 0),
    Function::alloc("mi_pvalloc", 0),
    Function::alloc("mi_new", 0),
    Function::alloc("mi_new_nothrow", 0),
    Function::alloc("mi_new_aligned", 0),
    Function::alloc("mi_new_aligned_nothrow", 0),
    Function::free("mi_free_size", 0),
    Function::free("mi_free_aligned", 0),
    Function::free("mi_free_size_aligned", 0),
    Function::free("mi_cfree", 0),
];

pub(super) static MIMALLOC: Allocator = Allocator {
    name: "mimalloc",
    markers: &["mi_malloc", "mi_malloc_aligned", "mi_free"],
    prefixes: &[""],
    functions: &[OWN, STANDARD, CPLUSPLUS],
};
