//! The result for one growth signal.

use crate::events::Nanos;
use crate::growth::signals::About;
use crate::growth::signals::family::Level;
use crate::report::FindingState;

use super::explanation::Explained;
use super::gates::Window;
use crate::findings::gates::Why;

/// The result for one growth signal at the last reading.
#[derive(Clone, Debug)]
pub struct JudgedSignal {
    /// Its state.
    pub state: FindingState,
    /// Why it does not pass the gates.
    pub why: Option<Why>,
    /// Window of the growth, else the whole history.
    pub window: Window,
    /// Onset of the growth.
    pub onset: Nanos,
    /// Level at the onset.
    pub first: Level,
    /// Level now.
    pub last: Level,
    /// The explanation of its growth, if there is enough of it.
    pub explained: Option<Explained>,
    /// Attributes of the signal.
    pub about: About,
}
