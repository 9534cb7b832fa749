//! musl's malloc (oldmalloc and mallocng).

use super::functions::{Allocator, STANDARD};

pub(super) static MUSL: Allocator = Allocator {
    name: "musl",
    // exported by its dynamic linker, or static in a program with symbols
    markers: &[
        "__libc_malloc_impl",
        "__malloc_donate",
        "__dls2b",
        "__dls3",
        "__malloc_atfork",
    ],
    prefixes: &[""],
    functions: &[STANDARD],
    size_before_block: false,
};
