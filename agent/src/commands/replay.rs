//! `heaptide replay FILE` and `attach --record FILE`: the same judgement from a capture.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    cli::{ExitCode, Replay},
    session::Session,
};

/// Runs `heaptide replay`.
pub(super) fn replay(_args: &Replay) -> Result<ExitCode> {
    bail!("not there yet")
}

/// Records what `session` observes of `pid`.
pub(super) fn record(_session: &mut Session, _path: &Path, _pid: u32) -> Result<()> {
    bail!("not there yet")
}
