//! jemalloc: preloaded or linked under the C names, prefixed `je_`, or Rust's `_rjem_`.

use super::functions::{Allocator, CPLUSPLUS, Function, STANDARD};

/// Its extended interface; `xallocx` resizes in place without a new pointer and is not followed.
static EXTENDED: &[Function] = &[
    Function::alloc("mallocx", 0),
    Function::realloc("rallocx", 0, 1),
    Function::free("dallocx", 0),
    Function::sized_free("sdallocx", 0, 1),
    Function::sized_free("free_sized", 0, 1),
    Function::sized_free("free_aligned_sized", 0, 2),
];

pub(super) static JEMALLOC: Allocator = Allocator {
    name: "jemalloc",
    markers: &[
        "mallctl",
        "je_mallctl",
        "_rjem_mallctl",
        "je_malloc",
        "_rjem_malloc",
        "_rjem_mallocx",
    ],
    prefixes: &["", "je_", "_rjem_"],
    functions: &[STANDARD, EXTENDED, CPLUSPLUS],
    size_before_block: false,
};
