//! How one target is observed, where that may differ from target to target.

use regex::Regex;

use super::SourceOptions;
use crate::cli::values::Mode;

/// How one target is observed.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Probe its allocators; without it only requests and memory are seen.
    pub allocations: bool,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// Lowers the memory limit found.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
}

impl From<&SourceOptions> for TargetOptions {
    fn from(options: &SourceOptions) -> Self {
        Self {
            allocations: options.allocations,
            handlers: options.handlers.clone(),
            memory_limit: options.memory_limit,
            follow: options.follow,
        }
    }
}

/// Whether a mode probes allocators. The one place that turns modes into probes.
pub fn allocations(mode: Mode) -> bool {
    mode != Mode::Watch
}
