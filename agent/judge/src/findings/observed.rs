//! Observed growth of a target, for the bound.

/// An observation: the bytes that could have leaked, and the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Upper limit of the bytes that leaked.
    pub bytes: f64,
    /// Seconds.
    pub seconds: f64,
    /// Requests whose memory was followed. 0: requests were not followed one by one.
    pub requests: f64,
}

impl Observed {
    /// The sum of two observations of different times.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            seconds: self.seconds + other.seconds,
            requests: self.requests + other.requests,
        }
    }

    /// Upper limit of the bytes per second.
    pub fn rate(self) -> f64 {
        self.bytes / self.seconds.max(1e-9)
    }
}
