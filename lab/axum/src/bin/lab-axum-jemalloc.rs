//! The service with jemalloc instead of the C library's malloc. Its functions have the prefix `_rjem_`; C code in the
//! process uses the C library.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
