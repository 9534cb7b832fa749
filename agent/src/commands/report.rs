//! The report at the end of a command: requested files and formats, and the exit code.

use anyhow::Result;

use crate::{
    cli::{ExitCode, Format, OutputArgs},
    outputs::{json, text},
};
use heaptide_judge::{report::Report, stacks::LiveStacks};

/// Writes all requested outputs. The first error is returned after the others were written.
pub(super) fn write_outputs(report: &Report, stacks: &LiveStacks, args: &OutputArgs) -> Result<()> {
    let path = args.output.as_deref();
    let mut results = vec![match args.format {
        Format::Text => text::write(report, path),
        Format::Json => json::write(report, path),
    }];
    for (output, path) in &args.files.0 {
        results.push((output.write)(report, stacks, path));
    }
    for result in results {
        result?;
    }
    Ok(())
}

/// The exit code for `--exit-code`.
pub(super) fn exit_code(report: &Report, args: &OutputArgs) -> ExitCode {
    if args.exit_code {
        report.verdict.into()
    } else {
        ExitCode::Success
    }
}
