//! mimalloc: as an override under the C names, and its own `mi_` functions (Rust's `mimalloc`).

use super::functions::{Allocator, CPLUSPLUS, Function, STANDARD};

/// Its own functions; aligned ones take the size first, unlike `aligned_alloc`. `mi_expand` resizes
/// in place without a new pointer and is not followed.
static OWN: &[Function] = &[
    Function::alloc("mi_malloc", 0),
    Function::array("mi_calloc", 0, 1),
    Function::realloc("mi_realloc", 0, 1),
    Function::free("mi_free", 0),
    Function::alloc("mi_zalloc", 0),
    Function::alloc("mi_malloc_small", 0),
    Function::alloc("mi_zalloc_small", 0),
    Function::array("mi_mallocn", 0, 1),
    Function::realloc("mi_reallocf", 0, 1),
    Function::realloc("mi_rezalloc", 0, 1),
    Function::realloc_array("mi_reallocn", 0, 1, 2),
    Function::realloc_array("mi_recalloc", 0, 1, 2),
    Function::realloc_array("mi_reallocarray", 0, 1, 2),
    Function::alloc("mi_malloc_aligned", 0),
    Function::alloc("mi_malloc_aligned_at", 0),
    Function::alloc("mi_zalloc_aligned", 0),
    Function::alloc("mi_zalloc_aligned_at", 0),
    Function::array("mi_calloc_aligned", 0, 1),
    Function::array("mi_calloc_aligned_at", 0, 1),
    Function::realloc("mi_realloc_aligned", 0, 1),
    Function::realloc("mi_realloc_aligned_at", 0, 1),
    Function::realloc("mi_rezalloc_aligned", 0, 1),
    Function::realloc("mi_rezalloc_aligned_at", 0, 1),
    Function::realloc_array("mi_recalloc_aligned", 0, 1, 2),
    Function::realloc_array("mi_recalloc_aligned_at", 0, 1, 2),
    Function::alloc("mi_memalign", 1),
    Function::alloc("mi_aligned_alloc", 1),
    Function::out("mi_posix_memalign", 0, 2),
    Function::alloc("mi_valloc", 0),
    Function::alloc("mi_pvalloc", 0),
    Function::alloc("mi_new", 0).throwing(),
    Function::alloc("mi_new_nothrow", 0),
    Function::alloc("mi_new_aligned", 0).throwing(),
    Function::alloc("mi_new_aligned_nothrow", 0),
    Function::array("mi_new_n", 0, 1).throwing(),
    Function::realloc("mi_new_realloc", 0, 1).throwing(),
    Function::realloc_array("mi_new_reallocn", 0, 1, 2).throwing(),
    Function::free("mi_free_size", 0),
    Function::free("mi_free_aligned", 0),
    Function::free("mi_free_size_aligned", 0),
    Function::free("mi_cfree", 0),
];

/// The same in a heap that the program has made. `mi_heap_destroy`, which gives back a whole heap
/// without a call for each block, is not followed.
static HEAPS: &[Function] = &[
    Function::alloc("mi_heap_malloc", 1),
    Function::alloc("mi_heap_zalloc", 1),
    Function::alloc("mi_heap_malloc_small", 1),
    Function::alloc("mi_heap_zalloc_small", 1),
    Function::array("mi_heap_calloc", 1, 2),
    Function::array("mi_heap_mallocn", 1, 2),
    Function::realloc("mi_heap_realloc", 1, 2),
    Function::realloc("mi_heap_reallocf", 1, 2),
    Function::realloc("mi_heap_rezalloc", 1, 2),
    Function::realloc_array("mi_heap_reallocn", 1, 2, 3),
    Function::realloc_array("mi_heap_recalloc", 1, 2, 3),
    Function::alloc("mi_heap_malloc_aligned", 1),
    Function::alloc("mi_heap_malloc_aligned_at", 1),
    Function::alloc("mi_heap_zalloc_aligned", 1),
    Function::alloc("mi_heap_zalloc_aligned_at", 1),
    Function::array("mi_heap_calloc_aligned", 1, 2),
    Function::array("mi_heap_calloc_aligned_at", 1, 2),
    Function::realloc("mi_heap_realloc_aligned", 1, 2),
    Function::realloc("mi_heap_realloc_aligned_at", 1, 2),
    Function::realloc("mi_heap_rezalloc_aligned", 1, 2),
    Function::realloc("mi_heap_rezalloc_aligned_at", 1, 2),
    Function::alloc("mi_heap_alloc_new", 1).throwing(),
    Function::array("mi_heap_alloc_new_n", 1, 2).throwing(),
];

pub(super) static MIMALLOC: Allocator = Allocator {
    name: "mimalloc",
    markers: &["mi_malloc", "mi_malloc_aligned", "mi_free"],
    prefixes: &[""],
    functions: &[OWN, STANDARD, CPLUSPLUS, HEAPS],
};
