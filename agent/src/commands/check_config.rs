//! `heaptide check_config`.

use anyhow::{Result, bail};

use crate::cli::{ExitCode, CheckConfig};

/// Runs it.
pub(super) fn check_config(_args: &CheckConfig) -> Result<ExitCode> {
    bail!("not there yet")
}
