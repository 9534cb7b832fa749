//! The service with mimalloc in place of the C library's malloc. Its functions are `mi_`; C code in the process stays with the C library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
