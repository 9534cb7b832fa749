//! `heaptide doctor`.

use anyhow::{Result, bail};

use crate::cli::{ExitCode, Doctor};

/// Runs it.
pub(super) fn doctor(_args: &Doctor) -> Result<ExitCode> {
    bail!("not there yet")
}
