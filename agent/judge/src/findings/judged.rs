//! The result for one series.

use crate::growth::Exposure;
use crate::report::{Cause, FindingState};

use super::cause::{Contrast, KeptByClass};
use super::gates::Why;
use super::window::Window;

/// The result for one series at the last snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its state.
    pub state: FindingState,
    /// Why it does not pass the gates.
    pub why: Option<Why>,
    /// Its cause if it grows.
    pub cause: Cause,
    /// Window of the growth, else the whole history.
    pub window: Window,
    /// First epoch of the growth.
    pub onset: usize,
    /// Memory kept per class since the onset.
    pub kept: KeptByClass,
    /// The compared classes.
    pub contrast: Contrast,
    /// Requests since the onset whose blocks could have matured, by class.
    pub exposed: Exposure,
}
