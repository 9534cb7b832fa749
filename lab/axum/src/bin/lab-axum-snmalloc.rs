//! The service with snmalloc instead of the C library's malloc. Its functions have the prefix `sn_rust_`; C code in the
//! process uses the C library.

#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
