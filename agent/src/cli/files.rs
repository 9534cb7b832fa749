//! The flags of the file outputs.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, FromArgMatches};

use crate::outputs::{FileOutput, files};

/// The other requested files; their flags are those of [`files::TABLE`].
#[derive(Clone, Debug, Default)]
pub struct FileArgs(pub Vec<(&'static FileOutput, PathBuf)>);

impl PartialEq for FileArgs {
    fn eq(&self, other: &Self) -> bool {
        let of = |args: &Self| -> Vec<_> {
            let files = args.0.iter();
            files
                .map(|(output, path)| (output.flag, path.clone()))
                .collect()
        };
        of(self) == of(other)
    }
}

impl FromArgMatches for FileArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let asked = files::TABLE.iter().filter_map(|output| {
            let path = matches.get_one::<PathBuf>(output.flag)?;
            Some((*output, path.clone()))
        });
        Ok(Self(asked.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for FileArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let flag = |output: &&'static FileOutput| {
            Arg::new(output.flag)
                .long(output.flag)
                .value_name(output.value)
                .value_parser(clap::value_parser!(PathBuf))
                .help(output.help)
        };
        command.args(files::TABLE.iter().map(flag))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}
