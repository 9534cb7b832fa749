//! What was judged of one growth signal.

use crate::events::Nanos;
use crate::growth::signals::About;
use crate::growth::signals::family::Level;
use crate::report::FindingState;

use super::explanation::Explained;
use super::gates::Window;
use crate::findings::gates::Why;

/// What was judged of one signal at the last reading.
#[derive(Clone, Debug)]
pub struct JudgedSignal {
    /// Its state.
    pub state: FindingState,
    /// Why it does not grow, if it does not.
    pub why: Option<Why>,
    /// Window of the growth, else the whole history.
    pub window: Window,
    /// When the growth began.
    pub onset: Nanos,
    /// Level at the onset.
    pub first: Level,
    /// Level now.
    pub last: Level,
    /// What explains its growth, once there is enough of it.
    pub explained: Option<Explained>,
    /// What else is known of it.
    pub about: About,
}
