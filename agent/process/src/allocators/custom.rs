//! Any other module that defines the C names: wrappers, preloaded checkers, unknown allocators.

use super::functions::{Allocator, STANDARD};

pub(super) static CUSTOM: Allocator = Allocator {
    name: "custom",
    markers: &[],
    prefixes: &[""],
    functions: &[STANDARD],
    size_before_block: false,
};
