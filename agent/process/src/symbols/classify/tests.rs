//! Frames of every kind.

use super::*;

fn kind(function: &str, file: Option<&str>, module: &str) -> FrameKind {
    let main = module == "/opt/app";
    classify(&Origin {
        function: Some(function),
        file,
        module,
        main,
        described: false,
    })
}

#[test]
fn allocators() {
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    for name in [
        "malloc",
        "__libc_malloc",
        "_int_malloc",
        "strdup",
        "__strdup",
        "vasprintf",
    ] {
        assert_eq!(kind(name, None, libc), FrameKind::Allocator, "{name}");
    }
    for name in [
        "operator new(unsigned long)",
        "operator new[](unsigned long)",
        "std::__new_allocator<char>::allocate(unsigned long, void const*)",
        "std::allocator_traits<std::allocator<char> >::allocate",
        "__gnu_cxx::new_allocator<int>::allocate(unsigned long, void const*)",
        "__rust_alloc",
        "__rustc::__rust_alloc",
        "__rdl_alloc",
        "alloc::alloc::alloc",
        "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
        "alloc::raw_vec::RawVec<T,A>::grow_one",
        "alloc::raw_vec::finish_grow",
        "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
        "<app::auth::Claims as core::clone::Clone>::clone",
        "<alloc::vec::Vec<app::T> as core::clone::Clone>::clone",
        "_rjem_malloc",
        "mi_malloc_aligned",
    ] {
        assert_eq!(kind(name, None, "/opt/app"), FrameKind::Allocator, "{name}");
    }
}

#[test]
fn libraries() {
    for (name, file) in [
        (
            "alloc::vec::Vec<T>::push",
            Some("/rustc/abc/library/alloc/src/vec/mod.rs"),
        ),
        (
            "tokio::runtime::f",
            Some("/home/u/.cargo/registry/src/x/tokio-1.0/src/lib.rs"),
        ),
        (
            "std::vector<int>::push_back(int&&)",
            Some("/usr/include/c++/12/bits/stl_vector.h"),
        ),
        ("core::ops::function::FnOnce::call_once", None),
        ("hyper::proto::h1::dispatch::Dispatcher::poll_loop", None),
        ("std::map<int, int>::operator[](int&&)", None),
        ("_start", None),
        ("<[u8] as core::fmt::Debug>::fmt", None),
        ("<str>::trim_start_matches::<&str>", None),
        ("<F as axum::handler::Handler<(M,),S>>::call", None),
        (
            "core::ptr::drop_in_place<app::T>",
            Some("/home/u/app/src/main.rs"),
        ),
    ] {
        assert_eq!(kind(name, file, "/opt/app"), FrameKind::Library, "{name}");
    }
    assert_eq!(
        kind("getaddrinfo", None, "/lib/x86_64-linux-gnu/libc.so.6"),
        FrameKind::Library
    );
}

#[test]
fn users() {
    for (name, file) in [
        ("app::get_data", Some("/home/u/app/src/main.rs")),
        ("<app::State as core::default::Default>::default", None),
        ("Cache::insert(std::string)", Some("/srv/cache.cc")),
        ("my_handler", None),
        ("freeze_cache", None),
        ("mallocate", None),
    ] {
        assert_eq!(kind(name, file, "/opt/app"), FrameKind::User, "{name}");
    }
    assert_eq!(
        kind("plugin_f", None, "/opt/lib/plugin.so"),
        FrameKind::User
    );
}

#[test]
fn static_c_library() {
    let described = |function, described| {
        let (file, module, main) = (None, "/opt/app", true);
        classify(&Origin {
            function: Some(function),
            file,
            module,
            main,
            described,
        })
    };
    assert_eq!(described("__libc_read", false), FrameKind::Library);
    assert_eq!(described("read", true), FrameKind::Library);
    assert_eq!(described("read", false), FrameKind::User);
    assert_eq!(described("app::get_data", true), FrameKind::User);
}

#[test]
fn nothing_known() {
    let nothing = Origin {
        function: None,
        file: None,
        module: "/opt/app",
        main: true,
        described: false,
    };
    assert_eq!(classify(&nothing), FrameKind::Unknown);
}
