//! The service with HTTP/2 as well, in plain text for clients that know beforehand.

fn main() -> anyhow::Result<()> {
    lab_axum::serve()
}
