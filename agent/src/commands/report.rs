//! The report at the end of a command: requested files and formats, and the exit code.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    cli::{ExitCode, Format, OutputArgs},
    outputs::{OutputError, file, json, text},
};
use heaptide_judge::{report::Report, stacks::LiveStacks};

/// Writes all requested outputs, and returns the exit code. The first error is returned, others are printed; with `--exit-code` a finding counts more than a file that would be empty.
pub(super) fn finish(report: &Report, stacks: &LiveStacks, args: &OutputArgs) -> Result<ExitCode> {
    let path = args.output.as_deref();
    let mut results = vec![match args.format {
        Format::Text => text::write(report, path),
        Format::Json => json::write(report, path),
    }];
    for (output, path) in &args.files.0 {
        results.push((output.write)(report, stacks, path));
    }
    let code = exit_code(report, args);
    let mut first = None;
    for error in results.into_iter().filter_map(Result::err) {
        let is_minor = matches!(error, OutputError::Nothing { .. }) && code != ExitCode::Success;
        if is_minor || first.is_some() {
            file::tell(&format!("heaptide: {error}"));
        } else {
            first = Some(error);
        }
    }
    first.map_or(Ok(code), |error| Err(error.into()))
}

/// Checks before an observation that its outputs can be written.
pub(super) fn check(args: &OutputArgs) -> Result<(), OutputError> {
    let files = args
        .files
        .0
        .iter()
        .map(|(output, path)| (output.flag, path));
    let all: Vec<(&'static str, &PathBuf)> = args
        .output
        .iter()
        .map(|path| ("the report", path))
        .chain(files)
        .collect();
    for (index, (what, path)) in all.iter().enumerate() {
        if all[..index].iter().any(|(_, other)| other == path) && !path.starts_with("/dev") {
            return Err(OutputError::Twice {
                path: (*path).clone(),
            });
        }
        file::check(what, path)?;
    }
    Ok(())
}

/// The exit code for `--exit-code`.
fn exit_code(report: &Report, args: &OutputArgs) -> ExitCode {
    if args.exit_code {
        report.verdict.into()
    } else {
        ExitCode::Success
    }
}
