//! `heaptide check-config FILE`: whether the daemon would take a configuration, and what it says.

use anyhow::Result;

use crate::{
    cli::{CheckConfig, ExitCode},
    config,
    outputs::file,
};

/// Runs it.
pub(super) fn check_config(args: &CheckConfig) -> Result<ExitCode> {
    let mut said = config::check(&args.file)?.join("\n");
    for target in &config::load(&args.file)?.targets {
        said.push_str("\ntarget ");
        said.push_str(&target.summary());
    }
    said.push('\n');
    file::print("the result", said.as_bytes())?;
    Ok(ExitCode::Success)
}
