//! The table of file outputs: one line each; each has its own flag.

use super::{FileOutput, flamegraph, pprof};

/// All of them, in the order of the help.
pub static TABLE: &[&FileOutput] = &[&flamegraph::OUTPUT, &pprof::OUTPUT];
