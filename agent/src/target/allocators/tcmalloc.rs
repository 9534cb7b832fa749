//! tcmalloc (gperftools and Google's own): the C names, `tc_` names, and C++ new/delete directly.

use super::{Allocator, CPLUSPLUS, Function, STANDARD};

/// C names only it has.
static OWN: &[Function] = &[
    Function::free("sdallocx", 0),
    Function::alloc("tc_new", 0),
    Function::alloc("tc_newarray", 0),
    Function::alloc("tc_new_nothrow", 0),
    Function::alloc("tc_newarray_nothrow", 0),
    Function::free("tc_delete", 0),
    Function::free("tc_deletearray", 0),
    Function::free("tc_free_sized", 0),
];

/// The C names behind `tc_`; mostly aliases of the plain ones.
static PREFIXED: &[Function] = &[
    Function::alloc("tc_malloc", 0),
    Function::array("tc_calloc", 0, 1),
    Function::realloc("tc_realloc", 0, 1),
    Function::alloc("tc_memalign", 1),
    Function::out("tc_posix_memalign", 0, 2),
    Function::alloc("tc_valloc", 0),
    Function::alloc("tc_pvalloc", 0),
    Function::free("tc_free", 0),
    Function::free("tc_cfree", 0),
];

pub(super) static TCMALLOC: Allocator = Allocator {
    name: "tcmalloc",
    markers: &[
        "tc_malloc",
        "TCMallocInternalMalloc",
        "MallocExtension_Internal_GetStats",
    ],
    prefixes: &[""],
    functions: &[STANDARD, CPLUSPLUS, OWN, PREFIXED],
};
