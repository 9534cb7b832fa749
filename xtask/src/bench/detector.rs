//! `cargo xtask bench detector`: bytes of state with all 2,048 series taken, and CPU with 1,000 of them.

use anyhow::Result;

pub(super) fn run() -> Result<()> {
    crate::eval::run_with(&["--bench".to_owned()])
}
