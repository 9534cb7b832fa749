//! The GNU C library's malloc, dynamic or static.

use super::functions::{Allocator, STANDARD};

pub(super) static GLIBC: Allocator = Allocator {
    name: "glibc",
    // not `__libc_malloc`: musl has it too
    markers: &["gnu_get_libc_version", "__libc_memalign"],
    prefixes: &[""],
    functions: &[STANDARD],
    size_before_block: true,
};
