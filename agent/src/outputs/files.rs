//! The files that can be made of a result: a line each. Its flag comes with it.

use super::{FileOutput, flamegraph, pprof};

/// All of them, in the order of the help.
pub static TABLE: &[&FileOutput] = &[&flamegraph::OUTPUT, &pprof::OUTPUT];
