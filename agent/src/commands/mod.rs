//! The subcommands, and the exit codes of their errors.

use std::process::ExitCode as ProcessExit;

use anyhow::Error;

use crate::{
    cli::{Cli, Command, ExitCode},
    config::ConfigError,
    daemon::{DaemonError, logging::LogError},
    kernel::KernelError,
    observe::SourceError,
    outputs::{OutputError, file},
    settings::SettingsError,
};
use heaptide_judge::capture::CaptureError;
use heaptide_process::{ProcessError, symbols};

mod attach;
mod bench;
mod check;
mod check_config;
mod diff;
mod doctor;
mod find;
mod judge;
mod list;
mod load;
mod manual;
mod observe;
mod ps;
mod record;
mod reload;
mod replay;
mod report;
mod requests;
mod run;

use diff::DiffError;
use find::FindError;
use reload::ReloadError;

/// Runs a subcommand.
pub fn execute(cli: Cli) -> ProcessExit {
    symbols::helper::run_as("/proc/self/exe".into(), vec!["symbolize-helper".into()]);
    let done = match cli.command {
        Command::Attach(args) => attach::attach(&args),
        Command::Check(args) => check::check(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Run(args) => run::run(&args, cli.log.as_deref()),
        Command::Ps(args) => ps::ps(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::CheckConfig(args) => check_config::check_config(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Manual(args) => manual::manual(&args),
        Command::SymbolizeHelper => symbols::helper::serve_confined()
            .map(|()| ExitCode::Success)
            .map_err(Into::into),
        Command::Pairs => crate::observe::calibrate::serve_pairs()
            .map(|()| ExitCode::Success)
            .map_err(Into::into),
        Command::StartLoad(args) => load::start_load(&args),
        Command::BenchFloor(args) => bench::floor(&args),
        Command::BenchNaive(args) => bench::naive(&args),
        Command::BenchResidency(args) => bench::residency(&args),
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            file::tell(&format!("heaptide: {}", told(&error)));
            code_of(&error).into()
        }
    }
}

/// An error with its causes, without those that its message already contains.
fn told(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code of an error.
fn code_of(error: &Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(target) = cause.downcast_ref::<ProcessError>() {
            return of_target(target);
        }
        if let Some(kernel) = cause.downcast_ref::<KernelError>() {
            return of_kernel(kernel);
        }
        if let Some(source) = cause.downcast_ref::<SourceError>() {
            return of_source(source);
        }
        if let Some(daemon) = cause.downcast_ref::<DaemonError>() {
            return match daemon {
                DaemonError::Source(source) => of_source(source),
                DaemonError::Settings(_) => ExitCode::Usage,
            };
        }
        if cause.is::<SettingsError>()
            || cause.is::<ConfigError>()
            || cause.is::<LogError>()
            || cause.is::<DiffError>()
        {
            return ExitCode::Usage;
        }
        if let Some(OutputError::Twice { .. }) = cause.downcast_ref::<OutputError>() {
            return ExitCode::Usage;
        }
        match cause.downcast_ref::<FindError>() {
            Some(FindError::None(_)) => return ExitCode::NoSuchProcess,
            Some(FindError::Several { .. }) => return ExitCode::Usage,
            None => {}
        }
        match cause.downcast_ref::<ReloadError>() {
            Some(ReloadError::None) => return ExitCode::NoSuchProcess,
            Some(ReloadError::Several(_) | ReloadError::Another(_)) => return ExitCode::Usage,
            None => {}
        }
        if let Some(capture) = cause.downcast_ref::<CaptureError>() {
            return of_capture(capture);
        }
    }
    ExitCode::Internal
}

fn of_source(error: &SourceError) -> ExitCode {
    match error {
        SourceError::Target(target) => of_target(target),
        SourceError::Kernel(kernel) => of_kernel(kernel),
        SourceError::Thread(_) => ExitCode::Internal,
    }
}

fn of_target(error: &ProcessError) -> ExitCode {
    match error {
        ProcessError::NoSuchProcess { .. } | ProcessError::Ended { .. } => ExitCode::NoSuchProcess,
        ProcessError::NotPermitted { .. } | ProcessError::Refused { .. } => ExitCode::NotPermitted,
        ProcessError::KernelThread { .. }
        | ProcessError::ThirtyTwoBit { .. }
        | ProcessError::OtherMachine { .. } => ExitCode::Unsupported,
        ProcessError::Io { .. } => ExitCode::Internal,
    }
}

fn of_capture(error: &CaptureError) -> ExitCode {
    match error {
        CaptureError::Open { .. }
        | CaptureError::NotACapture { .. }
        | CaptureError::Version { .. } => ExitCode::Usage,
        CaptureError::Write { .. }
        | CaptureError::Read { .. }
        | CaptureError::Truncated { .. }
        | CaptureError::Corrupt { .. } => ExitCode::Internal,
    }
}

fn of_kernel(error: &KernelError) -> ExitCode {
    match error {
        KernelError::NotPermitted { .. } => ExitCode::NotPermitted,
        KernelError::Unsupported { .. } => ExitCode::Unsupported,
        // The process may end between inspection and attach.
        KernelError::Attach { why, .. } if why.raw_os_error() == Some(libc::ESRCH) => {
            ExitCode::NoSuchProcess
        }
        _ => ExitCode::Internal,
    }
}
