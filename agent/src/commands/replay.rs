//! `heaptide replay FILE`: judges a capture.

use anyhow::Result;

use super::report;
use crate::cli::{ExitCode, Replay};
use heaptide_judge::capture;

/// Runs `heaptide replay`.
pub(super) fn replay(args: &Replay) -> Result<ExitCode> {
    report::check(&args.output)?;
    let judge = super::judge::options(&args.judge);
    let replay = capture::replay(&args.capture, judge)?;
    if let Some(damage) = &replay.damage {
        // An agent that was killed leaves such a file. Its content is still judged.
        crate::outputs::file::tell(&format!("heaptide: {damage}"));
    }
    report::finish(&replay.report, &replay.stacks, &args.output)
}
