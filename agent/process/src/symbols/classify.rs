//! The kind of a frame: allocator, library or application code.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use heaptide_judge::events::FrameKind;

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Demangled function; `None` without a symbol.
    pub function: Option<&'a str>,
    /// Source file.
    pub file: Option<&'a str>,
    /// Path of the module in the target's root.
    pub module: &'a str,
    /// The module is the main executable.
    pub main: bool,
    /// The module has debug information, so a frame without a file was compiled without.
    pub described: bool,
}

/// Functions that return memory to their caller.
static ALLOCATOR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        // C
        r"^(?:(?:__|__libc_|je_|_rjem_|mi_|tc_|_int_|_mid_)?",
        r"(?:malloc|calloc|realloc|reallocarray|free|cfree|memalign|aligned_alloc|posix_memalign",
        r"|valloc|pvalloc|mallocx|rallocx|dallocx|sdallocx|strdup|strndup|strdupa|wcsdup",
        r"|v?asprintf|v?asprintf_chk|vasprintf_internal)$",
        r"|_?(?:mi_|je_|_rjem_)\w+$|x?malloc_hook|sysmalloc|tcache_\w+|malloc_consolidate$",
        // C++
        r"|operator (?:new|delete)\b",
        r"|std::(?:__1::)?(?:__new_allocator|allocator|allocator_traits|__allocate_guarded)\b",
        r"|__gnu_cxx::(?:new_allocator|__alloc_traits|malloc_allocator)\b",
        // Rust
        r"|(?:__rustc(?:\[\w+\])?::)?__(?:rust|rdl|rg)_(?:alloc|realloc|dealloc|alloc_zeroed)",
        r"|alloc::alloc::|alloc::raw_vec::|alloc::boxed::box_new|core::alloc::",
        r"|alloc::boxed::Box<.*>::(?:new|try_new|new_uninit)(?:_in)?$",
        r"|<alloc::raw_vec::",
        // derived or not: the caller of `clone` keeps the copy
        r"|<.* as core::clone::Clone>::clone(?:_from)?$",
        r"|<.* as core::alloc::(?:global::)?(?:GlobalAlloc|Allocator)>::",
        r"|<.* as std::alloc::GlobalAlloc>::",
        r"|<alloc::alloc::Global as )",
    ))
    .ok()
});

/// Crates and namespaces that are never the application, for frames without a source file.
static LIBRARY_NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| LIBRARIES.split(' ').collect());
const LIBRARIES: &str = "std core alloc hashbrown backtrace addr2line gimli miniz_oxide rustc_demangle __rustc \
    __gnu_cxx __cxxabiv1 boost absl folly fmt spdlog google grpc tokio tokio_util \
    tokio_stream tokio_rustls hyper hyper_util axum axum_core tower tower_http tower_layer \
    tower_service actix_web actix_http actix_rt actix_server actix_service warp rocket \
    futures futures_util futures_core futures_channel futures_executor http http_body \
    http_body_util httparse h2 mio bytes serde serde_json serde_core serde_urlencoded \
    jsonwebtoken base64 ring rustls openssl native_tls reqwest sqlx diesel tracing \
    tracing_core tracing_subscriber log env_logger anyhow thiserror regex regex_automata \
    regex_syntax parking_lot parking_lot_core lock_api crossbeam crossbeam_channel \
    crossbeam_epoch crossbeam_utils dashmap indexmap moka lru once_cell smallvec itoa ryu \
    memchr pin_project_lite tonic prost async_trait matchit mime chrono time uuid url rand \
    rand_core rayon rayon_core socket2 simple_asn1 num_bigint zeroize sha2 hmac digest \
    tikv_jemallocator mimalloc";

/// Start-up code of every executable.
static START: &[&str] = &[
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "__libc_csu_init",
];

/// Classifies a frame.
pub fn classify(origin: &Origin<'_>) -> FrameKind {
    let Some(function) = origin.function else {
        let library = !origin.main && is_system_module(origin.module);
        return if library {
            FrameKind::Library
        } else {
            FrameKind::Unknown
        };
    };
    if ALLOCATOR
        .as_ref()
        .is_some_and(|names| names.is_match(function))
    {
        return FrameKind::Allocator;
    }
    if !origin.main && is_system_module(origin.module) {
        return FrameKind::Library;
    }
    if START.contains(&function) {
        return FrameKind::Library;
    }
    // drop glue has the line of the last field dropped
    if function.starts_with("core::ptr::drop_in_place") || function == "drop_in_place" {
        return FrameKind::Library;
    }
    let library = match origin.file {
        Some(file) => is_library_source(file),
        None => is_library_name(function) || is_foreign_c(function, origin.described),
    };
    if library {
        FrameKind::Library
    } else {
        FrameKind::User
    }
}

fn is_library_source(file: &str) -> bool {
    const PARTS: &[&str] = &[
        "/rustc/",
        "/.cargo/registry/",
        "/.cargo/git/",
        "/cargo/registry/",
        "/rustlib/src/",
        "/rust/deps/",
        "/usr/include/",
        "/usr/lib/gcc/",
        "/usr/local/include/",
        "/include/c++/",
        "/usr/src/",
        "/go/pkg/mod/",
        "/site-packages/",
        "/dist-packages/",
        "../sysdeps/",
        "/glibc",
        "/jemalloc/src/",
        "/mimalloc/src/",
    ];
    // if CARGO_HOME is elsewhere, the registry's folders identify it
    PARTS.iter().any(|part| file.contains(part))
        || file.contains("/registry/src/")
        || file.starts_with("library/")
        || file.starts_with("./malloc/")
}

fn is_system_module(path: &str) -> bool {
    [
        "/lib/",
        "/lib64/",
        "/usr/lib/",
        "/usr/lib64/",
        "/lib32/",
        "/usr/libexec/",
    ]
    .iter()
    .any(|dir| path.starts_with(dir))
        || path.starts_with('[')
        || path.rsplit('/').next().is_some_and(|name| {
            let known = [
                "libc.so",
                "libc-",
                "ld-linux",
                "ld-musl",
                "libstdc++",
                "libgcc_s",
            ];
            let more = [
                "libm.so",
                "libpthread",
                "libjemalloc",
                "libmimalloc",
                "libtcmalloc",
            ];
            known
                .iter()
                .chain(&more)
                .any(|start| name.starts_with(start))
        })
}

/// A C function without a file. One with a reserved name is from the C library (static programs). If
/// the application has debug information, a function without is not from the application.
fn is_foreign_c(function: &str, described: bool) -> bool {
    function.starts_with("__") || (described && !function.contains("::"))
}

/// The path begins with a crate or namespace of a library.
pub(super) fn is_library_name(function: &str) -> bool {
    // an implementation for a type without a path (`<[u8] as core::fmt::Debug>`, `<F as ..>`)
    // belongs to its trait; without a trait (`<str>::trim`) the type is a primitive
    match function.strip_prefix('<') {
        None => crate_of(function).is_some_and(|c| LIBRARY_NAMES.contains(c)),
        Some(of) => match (crate_of(of), of.split_once(" as ")) {
            (Some(own), _) => LIBRARY_NAMES.contains(own),
            (None, Some((_, of))) => crate_of(of).is_some_and(|c| LIBRARY_NAMES.contains(c)),
            (None, None) => true,
        },
    }
}

/// The first segment of a path, also of a type behind references and brackets.
fn crate_of(path: &str) -> Option<&str> {
    let name = path.trim_start_matches(['<', '&', '*', '(', '[']);
    let name = name.strip_prefix("mut ").unwrap_or(name);
    let name = name.strip_prefix("dyn ").unwrap_or(name);
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    name[end..].starts_with("::").then_some(&name[..end])
}

#[cfg(test)]
mod tests;
