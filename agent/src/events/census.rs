//! What a walk of a target's heap from outside finds.

use serde::{Deserialize, Serialize};

use super::Nanos;

/// One container of the target's heap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// How it is reached from a module, a class or a frame (`app.claims_cache`). Holds names of the
    /// program only, never a key or a value of the data.
    pub path: String,
    /// Its type (`dict`, `list`, `set`, `deque`).
    pub kind: String,
    /// Entries.
    pub entries: u64,
    /// Bytes of the container itself and what only its entries hold, where it was estimated.
    pub bytes: Option<u64>,
    /// The code that stores into it, as far as samples and the program's code tell: best first, empty
    /// when it is not known.
    #[serde(default)]
    pub filled_by: Vec<FilledBy>,
}

/// A place of the program that stores into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledBy {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line that stores.
    pub line: Option<u32>,
    /// Stack samples that had it; 0 when it is known otherwise.
    pub samples: u64,
}

/// The containers of a target's heap as a walk from outside found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// When the walk ended.
    pub at: Nanos,
    /// Objects visited.
    pub objects: u64,
    /// Reads that did not make sense because the program ran on, after retries.
    pub torn: u64,
    /// A bound of time or bytes ended the walk early.
    pub cut: bool,
    /// The biggest containers, and those that grew.
    pub containers: Vec<Container>,
}
