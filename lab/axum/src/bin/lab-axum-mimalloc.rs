//! The service with mimalloc instead of the C library's malloc. Its functions have the prefix `mi_`; C code in the
//! process uses the C library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
