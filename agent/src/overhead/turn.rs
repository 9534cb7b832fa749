//! Decisions of the controllers.

/// What to do with the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Stay,
    /// Detach them.
    Pause,
    /// Attach them again.
    Resume,
}
