//! The service with jemalloc in place of the C library's malloc. Its functions are prefixed `_rjem_`; C code in the process stays with the C library.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
