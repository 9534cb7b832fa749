//! Time until out-of-memory: headroom divided by the growth rate, with an interval.

use crate::report::TimeToOom;

/// 95 % quantile of the normal distribution: the interval covers 90 %.
const UPPER: f64 = 1.645;
/// 95 % quantile of Student's t distribution with three degrees of freedom.
const STUDENT: f64 = 2.353;
/// Minimum standard deviation of the drift, relative to the rate.
const LEAST_DRIFT: f64 = 0.15;

/// A growth rate with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Bytes per second.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

/// The growth rate from `(seconds, bytes grown)` per epoch since the onset. `variance`: the sampling
/// variance of the sum. The rate is from the later half of the time, because traffic may have changed.
///
/// The error has two parts: random variation between epochs, and changes of traffic. The second part is
/// estimated from the differences between quarters of the time. It is at least [`LEAST_DRIFT`] of the rate.
pub fn rate(epochs: &[(f64, f64)], variance: f64) -> Rate {
    let all: f64 = epochs.iter().map(|epoch| epoch.0).sum();
    let mut passed = 0.0;
    let later = epochs.iter().position(|epoch| {
        passed += epoch.0;
        passed > all / 2.0
    });
    let later = &epochs[later.unwrap_or(0).min(epochs.len().saturating_sub(2))..];
    let seconds: f64 = later.iter().map(|epoch| epoch.0).sum();
    if seconds <= 0.0 {
        return Rate::default();
    }
    let mean = later.iter().map(|epoch| epoch.1).sum::<f64>() / seconds;
    let n = later.len() as f64;
    let chance = if later.len() < 3 {
        mean.abs() / 2.0
    } else {
        let squares: f64 = later
            .iter()
            .map(|(s, bytes)| (bytes - mean * s).powi(2))
            .sum();
        ((squares * n / (n - 1.0) + variance) / (seconds * seconds)).sqrt()
    };
    // A standard deviation from four values is itself uncertain.
    let drift = STUDENT / UPPER * drift(epochs, all);
    Rate {
        mean,
        error: chance.hypot(drift.max(LEAST_DRIFT * mean.abs())),
    }
}

/// Standard deviation of the rate between quarters of the time.
fn drift(epochs: &[(f64, f64)], seconds: f64) -> f64 {
    let mut quarters = [(0.0, 0.0); 4];
    let mut passed = 0.0;
    for (s, bytes) in epochs {
        let middle = (passed + s / 2.0) / seconds;
        let quarter = &mut quarters[((4.0 * middle) as usize).min(3)];
        quarter.0 += s;
        quarter.1 += bytes;
        passed += s;
    }
    let taken = quarters.iter().filter(|quarter| quarter.0 > 0.0);
    let n = taken.clone().count() as f64;
    let mean = taken.clone().map(|(s, bytes)| bytes / s).sum::<f64>() / n.max(1.0);
    let squares: f64 = taken.map(|(s, bytes)| (bytes / s - mean).powi(2)).sum();
    if n < 2.0 {
        0.0
    } else {
        (squares / (n - 1.0)).sqrt()
    }
}

/// Seconds until `headroom` bytes are used. The interval is computed on the logarithm of the rate.
pub fn time_to_oom(headroom: f64, rate: Rate) -> Option<TimeToOom> {
    let median = headroom.max(0.0) / rate.mean;
    let factor = (UPPER * rate.error / rate.mean).exp();
    (rate.mean > 0.0).then_some(TimeToOom {
        median,
        early: median / factor,
        late: (rate.error < rate.mean).then_some(median * factor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_growth_gives_a_narrow_interval() {
        let steady = [(2.0, 200.0); 10];
        let oom = time_to_oom(1_000.0, rate(&steady, 0.0)).expect("it grows");
        assert!((oom.median - 10.0).abs() < 1e-9 && (7.5..8.5).contains(&oom.early));
        assert!(oom.late.is_some_and(|late| (12.0..13.5).contains(&late)));
        let rough: Vec<_> = (0..10).map(|i| (2.0, f64::from(i % 2) * 400.0)).collect();
        let oom = time_to_oom(1_000.0, rate(&rough, 0.0)).expect("it grows");
        assert!(oom.early < 0.8 * oom.median);
        assert_eq!(time_to_oom(1.0, rate(&[], 0.0)), None);
        assert_eq!(time_to_oom(1.0, rate(&[(1.0, -5.0)], 0.0)), None);
    }
}
