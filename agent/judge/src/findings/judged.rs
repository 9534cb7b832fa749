//! What was judged of one series.

use crate::growth::Exposure;
use crate::report::{Cause, FindingState};

use super::cause::{Contrast, KeptByClass};
use super::gates::Why;
use super::window::Window;

/// What was judged of one series at the last snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its state.
    pub state: FindingState,
    /// Why it does not grow, if it does not.
    pub why: Option<Why>,
    /// What makes it grow, had it no other excuse.
    pub cause: Cause,
    /// Window of the growth, else the whole history.
    pub window: Window,
    /// First epoch of the growth.
    pub onset: usize,
    /// What requests of each class keep since the onset.
    pub kept: KeptByClass,
    /// The classes that were compared.
    pub contrast: Contrast,
    /// Requests since the onset whose blocks could have matured, by class.
    pub exposed: Exposure,
}
