//! `heaptide run`.

use anyhow::{Result, bail};

use crate::cli::{ExitCode, Run};

/// Runs it.
pub(super) fn run(_args: &Run) -> Result<ExitCode> {
    bail!("not there yet")
}
