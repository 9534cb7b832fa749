//! The daemon's log: structured lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Errors of setting up the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error(
        "`{filter}` is not a log filter: {why}; use error, warn, info, debug or trace, or a \
         filter per module as in `heaptide=debug`"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Starts logging. A second call in a process has no effect.
pub fn begin(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|why| LogError::Filter {
        filter: filter.to_owned(),
        why: why.to_string(),
    })?;
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // They would be printed there too, and panic if it is closed.
        .log_internal_errors(false)
        .with_env_filter(parsed);
    let begun = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    // Fails only if a test has set up a log before.
    drop(begun);
    Ok(())
}
