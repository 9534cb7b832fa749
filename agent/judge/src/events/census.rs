//! Containers that a walk of a target's heap from outside finds.

use serde::{Deserialize, Serialize};

use super::time::Nanos;

/// One container of the target's heap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Path from a module, a class or a frame (`app.claims_cache`). It has names of the program only, never
    /// a key or a value of the data.
    pub path: String,
    /// Its type (`dict`, `list`, `set`, `deque`).
    pub kind: String,
    /// Entries.
    pub entries: u64,
    /// Bytes of the container and of the objects that only its entries hold, if estimated.
    pub bytes: Option<u64>,
    /// Writer sites: the code that stores into it, from stack samples and bytecode. Best first; empty if
    /// unknown.
    #[serde(default)]
    pub writers: Vec<WriterSite>,
    /// Other paths to it, in the form of `path`.
    #[serde(default)]
    pub also_at: Vec<String>,
    /// The one of these that the code in `writers` uses.
    #[serde(default)]
    pub known_as: Option<String>,
}

/// Kind of an entry that counts goroutines by the place where they wait. Their bytes are stacks, which are
/// not part of the heap.
pub const GOROUTINES: &str = "goroutines";

/// Kind of an entry that counts all instances of a class, reachable or not.
pub const INSTANCES: &str = "instances";

/// A writer site: a line of code that stores into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterSite {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line that stores.
    pub line: Option<u32>,
    /// Stack samples that contain it. 0 if it is known from another source.
    pub samples: u64,
}

/// Length samples: lengths of a few containers, read many times between two censuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Time of the last sample.
    pub at: Nanos,
    /// Path and kind of each container, as in the census.
    pub containers: Vec<(String, String)>,
    /// Time of each sample, and the number of entries of each container.
    pub ticks: Vec<(Nanos, Vec<u64>)>,
}

/// The containers of a target's heap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// The middle of the walk.
    pub at: Nanos,
    /// When instances of classes were counted. They come last.
    pub instances_at: Nanos,
    /// Objects visited.
    pub objects: u64,
    /// Inconsistent reads after retries. They occur because the program runs on during the walk.
    pub torn: u64,
    /// A limit on time or bytes ended the walk early.
    pub cut: bool,
    /// The biggest containers, and those that grew.
    pub containers: Vec<Container>,
}
