//! The report at the end of a command: requested files and formats, and the exit code.

use std::path::Path;

use anyhow::Result;

use crate::{
    cli::{ExitCode, Format, OutputArgs},
    outputs::{OutputError, file, json, text},
};
use heaptide_judge::{report::Report, stacks::LiveStacks};

/// Writes all requested outputs, and returns the exit code.
pub(super) fn finish(report: &Report, stacks: &LiveStacks, args: &OutputArgs) -> Result<ExitCode> {
    let path = args.output.as_deref();
    let mut results = vec![match args.format {
        Format::Text => text::write(report, path),
        Format::Json => json::write(report, path),
    }];
    for (output, path) in &args.files.0 {
        results.push((output.write)(report, stacks, path));
    }
    first_error(results, exit_code(report, args))
}

/// The first error of these outputs, or `code`. The others are printed. If `code` says that something was found, that counts
/// more than a file that would be empty.
pub(super) fn first_error(
    results: Vec<Result<(), OutputError>>,
    code: ExitCode,
) -> Result<ExitCode> {
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
        .map(|(output, path)| (output.flag, path.as_path()));
    let report = args
        .output
        .iter()
        .map(|path| ("the report", path.as_path()));
    check_paths(&report.chain(files).collect::<Vec<_>>())
}

/// The same for these files.
pub(super) fn check_paths(all: &[(&'static str, &Path)]) -> Result<(), OutputError> {
    for (index, (what, path)) in all.iter().enumerate() {
        if all[..index].iter().any(|(_, other)| other == path) && !path.starts_with("/dev") {
            return Err(OutputError::Twice {
                path: path.to_path_buf(),
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
