//! `heaptide diff A B`: compares two reports or captures.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::{
    cli::{Diff, ExitCode, Format},
    outputs::{diff as output, file},
};
use heaptide_judge::capture::{self, MAGIC};
use heaptide_judge::diff::compare;
use heaptide_judge::pipeline::JudgeOptions;
use heaptide_judge::report::{Report, SCHEMA};

/// Maximum size of a report. One with all its routes and stacks is smaller than 1 MiB.
const LARGEST: u64 = 16 << 20;

/// Why a file cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiffError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; name a JSON report or a capture", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder or a device.
    #[error("{} is not a regular file; name a JSON report or a capture", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is too large.
    #[error("{} is larger than any report ({} MiB)", path.display(), LARGEST >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not a report.
    #[error(
        "{} is neither a JSON report nor a capture ({why}); `heaptide attach --format json --output FILE` writes a report, \
         and `--record FILE` a capture",
        path.display()
    )]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The part of a report that tells what it is.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// Runs `heaptide diff`.
pub(super) fn diff(args: &Diff) -> Result<ExitCode> {
    if let Some(path) = &args.output {
        file::check("the comparison", path)?;
    }
    let options = super::judge::options(&args.judge);
    let (before, after) = (load(&args.before, options)?, load(&args.after, options)?);
    let diff = compare(&before, &after);
    let path = args.output.as_deref();
    match args.format {
        Format::Text => output::write(&diff, path)?,
        Format::Json => output::write_json(&diff, path)?,
    }
    Ok(match diff.exit_code() {
        _ if !args.exit_code => ExitCode::Success,
        1 => ExitCode::Confirmed,
        4 => ExitCode::InsufficientEvidence,
        _ => ExitCode::Success,
    })
}

/// The report in a file, or that of a capture.
pub(super) fn load(path: &Path, options: JudgeOptions) -> Result<Report> {
    let failed = |source| DiffError::Read {
        path: path.to_owned(),
        source,
    };
    // Opening a FIFO would block.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(DiffError::NotAFile {
            path: path.to_owned(),
        }
        .into());
    }
    let mut content = Vec::new();
    let mut opened = File::open(path).map_err(failed)?;
    opened
        .by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content == MAGIC {
        let replay = capture::replay(path, options)?;
        if let Some(damage) = &replay.damage {
            file::tell(&format!("heaptide: {damage}"));
        }
        return Ok(replay.report);
    }
    opened
        .take(LARGEST)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err(DiffError::TooLarge {
            path: path.to_owned(),
        }
        .into());
    }
    Ok(parse(path, &content)?)
}

fn parse(path: &Path, content: &[u8]) -> Result<Report, DiffError> {
    let wrong = |why: String| DiffError::NotAReport {
        path: path.to_owned(),
        why,
    };
    // Of a wrong file the schema says more than the first field that is missing.
    let head: Head = serde_json::from_slice(content).map_err(|error| wrong(error.to_string()))?;
    if head.schema != SCHEMA {
        let found: String = head.schema.escape_default().take(40).collect();
        return Err(wrong(format!("its schema is {found}, not {SCHEMA}")));
    }
    serde_json::from_slice(content).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::fixtures;

    fn said(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, content).unwrap();
        load(&path, JudgeOptions::default())
            .map(|report| report.verdict)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let mut report = fixtures::leak();
        crate::outputs::json::write(&report, Some(&path)).unwrap();
        report.live = heaptide_judge::report::Live::default();
        assert_eq!(load(&path, JudgeOptions::default()).unwrap(), report);
    }

    #[test]
    fn what_is_no_report_is_named() {
        assert!(said(b"").contains("EOF"));
        assert!(said(b"HTCAP").contains("neither a JSON report nor a capture"));
        assert!(said(b"HTCAP\n\xff\xff").contains("version 65535"));
        assert!(said(b"[1]").contains("neither"));
        assert!(said(b"{\"schema\": \"heaptide.report/v1\"}").contains("missing field"));
        let other = b"{\"schema\": \"heaptide.diff/v1\x1b[2J\"}";
        assert!(said(other).contains("control character"));
        let other = said(b"{\"schema\": \"heaptide.report/v2\\u001b\", \"findings\": []}");
        assert!(
            other.contains("its schema is heaptide.report/v2\\u{1b}"),
            "{other}"
        );
        let deep = "[".repeat(1 << 20);
        assert!(said(format!("{{\"schema\": {deep}").as_bytes()).contains("neither"));
        let large = vec![b' '; LARGEST as usize + 1];
        assert!(said(&large).contains("larger than any report"));
    }

    #[test]
    fn a_folder_and_a_missing_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| {
            load(path, JudgeOptions::default())
                .map(|report| report.verdict)
                .unwrap_err()
                .to_string()
        };
        assert!(read(folder.path()).contains("not a regular file"));
        assert!(read(Path::new("/dev/zero")).contains("not a regular file"));
        assert!(read(&folder.path().join("missing")).contains("No such file"));
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        assert!(read(&fifo).contains("not a regular file"));
    }
}
