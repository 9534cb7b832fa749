//! The result of a comparison (`heaptide.diff/v1`).
//!
//! The JSON form is a stable interface: fields may be added, but never renamed or removed.

use serde::{Deserialize, Serialize};

use crate::report::{Cause, FindingState, SiteSummary, Verdict};

/// The value of `schema`.
pub const SCHEMA: &str = "heaptide.diff/v1";
/// The comparison of two reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: String,
    /// The first run.
    pub before: RunSummary,
    /// The second run.
    pub after: RunSummary,
    /// The result.
    pub outcome: Outcome,
    /// The result in one or two sentences.
    pub reason: String,
    /// Something may be new or have grown, but the evidence does not tell.
    pub may_be_worse: bool,
    /// What grows in either run, differences first.
    pub changes: Vec<Change>,
    /// What makes the runs hard to compare, in sentences.
    pub notes: Vec<String>,
}

/// One of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Executable.
    pub exe: String,
    /// Its runtime.
    pub runtime: String,
    /// Mode of allocation tracing.
    pub mode: String,
    /// Version of heaptide.
    pub version: String,
    /// Seconds observed.
    pub seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// Requests with a new credential.
    pub new_tokens: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// Growth that could have been missed, bytes per second, besides its findings. `None`: it is not known.
    pub missed_bytes_per_second: Option<f64>,
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing differs.
    NoDifference,
    /// Something is gone or has shrunk, and nothing is new or has grown.
    Better,
    /// Something is new or has grown.
    Worse,
    /// No difference was found, but there may be one.
    CannotTell,
}

/// How a finding differs between the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It grows in the second run only, and the first run would have seen it.
    New,
    /// More is kept per event in the second run.
    Grown,
    /// It grows in the first run only, and the second run would have seen it.
    Gone,
    /// Less is kept per event in the second run.
    Shrunk,
    /// The evidence does not tell.
    CannotTell,
    /// No difference above the resolution.
    Same,
}

/// What the bytes are counted per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests with a new token.
    NewToken,
    /// Requests with a new token that keep anything.
    KeptToken,
    /// Requests with a repeated token.
    RepeatToken,
    /// Requests with a token.
    TokenRequest,
    /// Requests.
    Request,
    /// Entries of the container.
    Entry,
    /// Seconds.
    Second,
}

/// Something that grows in one run or in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// How it differs.
    pub kind: Kind,
    /// Why, in one sentence.
    pub reason: String,
    /// Cause of the growth, of the second run if both have it.
    pub cause: Cause,
    /// Route.
    pub route: String,
    /// The code that keeps the memory.
    pub site: Place,
    /// Path of the growing container.
    pub container: Option<String>,
    /// State in the first run.
    pub state_before: Option<FindingState>,
    /// State in the second run.
    pub state_after: Option<FindingState>,
    /// What the amounts are counted per.
    pub unit: Unit,
    /// Bytes kept per event in the first run. `None`: it does not grow there, as far as is known.
    pub before: Option<Amount>,
    /// The same in the second run.
    pub after: Option<Amount>,
    /// The smallest difference that the evidence of these runs could show, bytes per event.
    pub resolution: Option<f64>,
    /// Code that keeps memory in the first run only.
    pub sites_before: Vec<Place>,
    /// Code that keeps memory in the second run only.
    pub sites_after: Vec<Place>,
}

/// Bytes per event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes.
    pub bytes: f64,
    /// Their standard error.
    pub error: f64,
    /// More may be kept.
    pub is_lower_bound: bool,
}

/// A code location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// Binary or library.
    pub module: String,
}

impl From<&SiteSummary> for Place {
    fn from(site: &SiteSummary) -> Self {
        Self {
            function: site.function.clone(),
            file: site.file.clone(),
            line: site.line,
            module: site.module.clone(),
        }
    }
}

impl Diff {
    /// The exit code of `--exit-code`: 1 if something is new or has grown, 4 if that cannot be told, else 0.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Worse => 1,
            _ if self.may_be_worse => 4,
            _ => 0,
        }
    }
}
