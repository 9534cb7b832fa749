//! The service with HTTP/2 too, in plain text with prior knowledge.

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
