//! `heaptide ps`.

use anyhow::{Result, bail};

use crate::cli::{ExitCode, Ps};

/// Runs it.
pub(super) fn ps(_args: &Ps) -> Result<ExitCode> {
    bail!("not there yet")
}
