//! The report at the end of a command: requested files and formats, and the exit code.

use anyhow::Result;
use tracing::error;

use crate::{
    cli::{ExitCode, Format, OutputArgs},
    outputs::{OutputError, json, text},
};
use heaptide_judge::{report::Report, stacks::LiveStacks};

/// Writes all requested outputs, and returns the exit code. The first error is returned after the others were written;
/// with `--exit-code` a finding counts more than a file that would be empty.
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
    for result in results {
        match result {
            Err(error @ OutputError::Nothing { .. }) if code != ExitCode::Success => {
                error!("{error}");
            }
            other => other?,
        }
    }
    Ok(code)
}

/// The exit code for `--exit-code`.
fn exit_code(report: &Report, args: &OutputArgs) -> ExitCode {
    if args.exit_code {
        report.verdict.into()
    } else {
        ExitCode::Success
    }
}
