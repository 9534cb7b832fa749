//! What a walk of a target's heap from outside finds.

use serde::{Deserialize, Serialize};

use super::time::Nanos;

/// One container of the target's heap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    pub writers: Vec<WriterSite>,
    /// Other ways in which it is reached, spelt as `path` is.
    #[serde(default)]
    pub also_at: Vec<String>,
    /// Of these, the one by which the code in `writers` knows it.
    #[serde(default)]
    pub known_as: Option<String>,
}

/// Kind of what counts goroutines by where they wait: their bytes are stacks, which are no part of the heap.
pub const GOROUTINES: &str = "goroutines";

/// Kind of what counts all instances of a class, reachable or not.
pub const INSTANCES: &str = "instances";

/// A place of the program that stores into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterSite {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line that stores.
    pub line: Option<u32>,
    /// Stack samples that had it; 0 when it is known otherwise.
    pub samples: u64,
}

/// Lengths of a few containers, read many times between two censuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The last look.
    pub at: Nanos,
    /// Path and kind of each, as the census has them.
    pub containers: Vec<(String, String)>,
    /// When they were looked at, and the entries of each.
    pub ticks: Vec<(Nanos, Vec<u64>)>,
}

/// The containers of a target's heap as a walk from outside found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// The middle of the walk.
    pub at: Nanos,
    /// When instances of classes were counted, which comes last.
    pub instances_at: Nanos,
    /// Objects visited.
    pub objects: u64,
    /// Reads that did not make sense because the program ran on, after retries.
    pub torn: u64,
    /// A bound of time or bytes ended the walk early.
    pub cut: bool,
    /// The biggest containers, and those that grew.
    pub containers: Vec<Container>,
}
