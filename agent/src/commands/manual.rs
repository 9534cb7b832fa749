//! `heaptide manual`: the manual pages and the completions of shells, from the definition of the command line.

use anyhow::{Context as _, Result};
use clap_complete::Shell;

use crate::cli::{self, ExitCode, Manual};

/// Writes `heaptide.1`, a page per visible subcommand, and a file per shell.
pub(super) fn manual(args: &Manual) -> Result<ExitCode> {
    let folder = &args.folder;
    let say = || format!("cannot write to {}", folder.display());
    let mut command = cli::definition();
    clap_mangen::generate_to(command.clone(), folder).with_context(say)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "heaptide", folder).with_context(say)?;
    }
    Ok(ExitCode::Success)
}
