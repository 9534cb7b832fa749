//! The service with the allocator of its platform.

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
