//! The service with snmalloc in place of the C library's malloc. Its functions are `sn_rust_`; C code in the process stays with the C library.

#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
