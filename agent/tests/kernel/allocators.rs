//! The truth program with each supported allocator for C and C++: linked, as an archive, preloaded, static. The
//! agent's result must equal the books, and name the allocator.

use super::common::books::Target;
use super::common::compile::{self, Malloc, Program};
use super::common::truth;
use super::common::{kernel, skip, watch};
use serde_json::Value;

/// Runs the truth program with an allocator and compares: twice, and with half of the blocks freed.
fn exact(name: &str, malloc: Malloc, preload: Option<&str>, allocators: &[&str]) {
    exact_but(name, malloc, preload, allocators, |_, _| true);
}

/// The same for the functions and kinds that are `compared`.
fn exact_but(
    name: &str,
    malloc: Malloc,
    preload: Option<&str>,
    allocators: &[&str],
    compared: impl Fn(&str, &str) -> bool,
) {
    let Some(_turn) = kernel(name) else {
        return;
    };
    let process = truth::start_with(false, malloc, preload);
    let mut watched = watch(process.id(), &[]);
    let mut target = Target { process };
    target.run("go");
    target.run("free-half");
    let books = target.run("again");
    watched.finish();
    target.agrees_but(&watched, &books, compared);
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let said = report["target"]["allocators"].as_array().expect("a list");
    for allocator in allocators {
        assert!(
            said.iter().any(|one| one == allocator),
            "{allocator}: {said:?}"
        );
    }
}

macro_rules! exact {
    ($($name:ident: $malloc:expr, $preload:expr, $allocators:expr;)*) => {$(
        #[test]
        fn $name() {
            exact(stringify!($name), $malloc, $preload, &$allocators);
        }
    )*};
}

exact! {
    glibc_static: Malloc::LibcStatic, None, ["glibc"];
    jemalloc_linked: Malloc::Library("jemalloc"), None, ["jemalloc"];
    jemalloc_archive: Malloc::Archive("jemalloc"), None, ["jemalloc"];
    jemalloc_preloaded: Malloc::Libc, Some("libjemalloc.so.2"), ["jemalloc"];
    jemalloc_prefixed_beside_glibc: Malloc::Prefixed("je_"), None, ["jemalloc", "glibc"];
    jemalloc_of_rust_beside_glibc: Malloc::Prefixed("_rjem_"), None, ["jemalloc", "glibc"];
    mimalloc_linked: Malloc::Library("mimalloc"), None, ["mimalloc"];
    mimalloc_preloaded: Malloc::Libc, Some("libmimalloc.so.2"), ["mimalloc"];
    tcmalloc_linked: Malloc::Library("tcmalloc_minimal"), None, ["tcmalloc"];
    tcmalloc_archive: Malloc::Archive("tcmalloc_minimal"), None, ["tcmalloc"];
    tcmalloc_preloaded: Malloc::Libc, Some("libtcmalloc_minimal.so.4"), ["tcmalloc"];
}

/// Functions of musl that allocate or map memory for their caller. musl has no unwind information, so the caller is
/// not found, and blocks are attributed to these functions.
const OF_MUSL: &[&str] = &[
    "site_asprintf",
    "site_getline",
    "site_strdup",
    "site_strndup",
    "site_wcsdup",
    "vasprintf",
    "__getdelim",
    "getdelim",
    "strdup",
    "strndup",
    "wcsdup",
];

#[test]
fn musl_shared() {
    let compared = |function: &str, kind: &str| kind == "heap" && !OF_MUSL.contains(&function);
    exact_but("musl_shared", Malloc::Musl, None, &["musl"], compared);
}

#[test]
fn musl_static() {
    let compared = |function: &str, kind: &str| kind == "heap" && !OF_MUSL.contains(&function);
    exact_but("musl_static", Malloc::MuslStatic, None, &["musl"], compared);
}

#[test]
fn snmalloc_preloaded() {
    let name = "snmalloc_preloaded";
    if compile::snmalloc().is_none() {
        return skip(name, "the sources of its crate were not fetched");
    }
    let library = compile::program(Program::Snmalloc).display().to_string();
    exact(name, Malloc::Libc, Some(&library), &["snmalloc"]);
}
