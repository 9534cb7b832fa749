//! An interpreter whose memory can be read from outside.

use std::sync::Arc;

use heaptide_process::plan::wishes::FunctionAt;

use super::layout::Layout;
use super::version::Version;

/// An interpreter whose memory can be read from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its version.
    pub(crate) version: Version,
    /// Address of `_PyRuntime` in the target's memory.
    pub(crate) runtime: u64,
    /// Offsets of fields in its structures.
    pub(crate) layout: Arc<Layout>,
    /// [`CONTEXT_COPY`].
    pub(crate) context_copy: Option<FunctionAt>,
}

/// Called for each new task, callback and call in a worker thread: they run in a copy of the context (PEP
/// 567) of their creator.
pub(crate) const CONTEXT_COPY: &str = "PyContext_CopyCurrent";
