//! What a controller decides.

/// What is to become of probes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// They stay as they are.
    Stay,
    /// They come off.
    Pause,
    /// They go on again.
    Resume,
}
