//! snmalloc: under the C names, prefixed `sn_`, or Rust's `sn_rust_` functions.

use super::functions::{Allocator, CPLUSPLUS, Function, STANDARD};

/// The functions of the crate `snmalloc-rs`: alignment before size.
static RUST: &[Function] = &[
    Function::alloc("sn_rust_alloc", 1),
    Function::alloc("sn_rust_alloc_zeroed", 1),
    Function::realloc("sn_rust_realloc", 0, 3),
    Function::free("sn_rust_dealloc", 0),
];

pub(super) static SNMALLOC: Allocator = Allocator {
    name: "snmalloc",
    markers: &[
        "sn_rust_alloc",
        "sn_malloc",
        "__malloc_last_byte_pointer",
        "__malloc_end_pointer",
    ],
    prefixes: &["", "sn_"],
    functions: &[STANDARD, CPLUSPLUS, RUST],
    size_before_block: false,
};
