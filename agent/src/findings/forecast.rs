//! When memory runs out: headroom against growth, with an interval.

use crate::report::TimeToOom;

/// Upper 95 % of the normal distribution: median to early covers the pessimistic side of 90 %.
const UPPER: f64 = 1.645;

/// Growth in bytes per second and the standard error of that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Bytes per second.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

/// The rate of growth from `(seconds, bytes grown)` per epoch; `variance`: what sampling adds to the sum.
pub fn rate(epochs: &[(f64, f64)], variance: f64) -> Rate {
    let seconds: f64 = epochs.iter().map(|epoch| epoch.0).sum();
    if seconds <= 0.0 {
        return Rate::default();
    }
    let mean = epochs.iter().map(|epoch| epoch.1).sum::<f64>() / seconds;
    let n = epochs.len() as f64;
    let error = if epochs.len() < 3 {
        mean.abs() / 2.0
    } else {
        let squares: f64 = epochs
            .iter()
            .map(|(s, bytes)| (bytes - mean * s).powi(2))
            .sum();
        ((squares * n / (n - 1.0) + variance) / (seconds * seconds)).sqrt()
    };
    Rate { mean, error }
}

/// Seconds until `headroom` bytes are used up.
pub fn time_to_oom(headroom: f64, rate: Rate) -> Option<TimeToOom> {
    let slow = rate.mean - UPPER * rate.error;
    (rate.mean > 0.0).then(|| TimeToOom {
        median: headroom.max(0.0) / rate.mean,
        early: headroom.max(0.0) / (rate.mean + UPPER * rate.error),
        late: (slow > 0.0).then(|| headroom.max(0.0) / slow),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_growth_gives_a_narrow_interval() {
        let steady = [(2.0, 200.0); 10];
        let oom = time_to_oom(1_000.0, rate(&steady, 0.0)).expect("it grows");
        assert!((oom.median - 10.0).abs() < 1e-9 && (oom.early - 10.0).abs() < 1e-9);
        let rough: Vec<_> = (0..10).map(|i| (2.0, f64::from(i % 2) * 400.0)).collect();
        let oom = time_to_oom(1_000.0, rate(&rough, 0.0)).expect("it grows");
        assert!(oom.early < 0.8 * oom.median);
        assert_eq!(time_to_oom(1.0, rate(&[], 0.0)), None);
        assert_eq!(time_to_oom(1.0, rate(&[(1.0, -5.0)], 0.0)), None);
    }
}
