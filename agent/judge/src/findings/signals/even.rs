//! The e-value of a constant drift: the likelihood ratio of growth that follows a clock against a random
//! walk.
//!
//! Let `d` be the increments and `h` the clock ticks, scaled to a mean of 1. Null hypothesis: `d ~ N(0, s^2
//! h)`. Alternative: `d ~ N(k s h, s^2 h)`. `s` is unknown. With the right Haar prior on `s` the likelihood
//! ratio depends only on `n` and the correlation `r = sum d / sqrt(n sum d^2/h)`. It is an e-value at any
//! stopping time (Perez-Ortiz, Lardy, de Heide and Gruenwald, "E-statistics, group invariance and
//! anytime-valid testing", Ann. Stat. 2024). The e-value is the mean over the drifts `k` in [`DRIFTS`].

/// Drift per increment, in standard deviations of an increment.
const DRIFTS: [f64; 6] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
/// Nodes of the integral over the unknown spread.
const NODES: usize = 160;

/// Natural logarithm of the e-value of the increments `growth` by the clock `ticks`. `None` if there are
/// too few ticks. An increment without a tick is added to the next one.
pub fn log_e(growth: &[f64], ticks: &[f64]) -> Option<f64> {
    let mut steps: Vec<(f64, f64)> = Vec::with_capacity(growth.len());
    let mut carried = 0.0;
    for (grown, ticks) in growth.iter().zip(ticks) {
        if *ticks > 0.0 {
            steps.push((grown + carried, *ticks));
            carried = 0.0;
        } else {
            carried += grown;
        }
    }
    let n = steps.len();
    if n < 2 {
        return None;
    }
    let mean = steps.iter().map(|step| step.1).sum::<f64>() / n as f64;
    let sum: f64 = steps.iter().map(|step| step.0).sum();
    let squares: f64 = steps.iter().map(|(d, h)| d * d * mean / h).sum();
    if squares <= 0.0 {
        return None;
    }
    let r = (sum / (n as f64 * squares).sqrt()).clamp(-1.0, 1.0);
    let logs = DRIFTS.map(|drift| log_ratio(n as f64, r, drift));
    Some(mean_of(&logs))
}

/// Logarithm of the weighted mean of e-values that are given as logarithms.
pub fn weighted(logs: &[(f64, f64)]) -> f64 {
    let top = logs
        .iter()
        .map(|log| log.0)
        .fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    let weights: f64 = logs.iter().map(|log| log.1).sum();
    let sum: f64 = logs
        .iter()
        .map(|(log, weight)| weight * (log - top).exp())
        .sum();
    top + (sum / weights).ln()
}

fn mean_of(logs: &[f64]) -> f64 {
    let logs: Vec<(f64, f64)> = logs.iter().map(|log| (*log, 1.0)).collect();
    weighted(&logs)
}

/// `ln (integral of v^(n-1) e^(-v^2/2 + k sqrt(n) r v) / integral of v^(n-1) e^(-v^2/2)) - k^2 n / 2`.
fn log_ratio(n: f64, r: f64, drift: f64) -> f64 {
    let slope = drift * n.sqrt() * r;
    log_integral(n, slope) - log_integral(n, 0.0) - drift * drift * n / 2.0
}

/// By the trapezoidal rule around the peak; the integrand falls like a normal density on both sides.
fn log_integral(n: f64, slope: f64) -> f64 {
    let peak = f64::midpoint(slope, (slope * slope + 4.0 * (n - 1.0)).sqrt());
    let at = |v: f64| (n - 1.0) * v.ln() - v * v / 2.0 + slope * v;
    let (from, to) = ((peak - 8.0).max(0.0), peak + 8.0);
    let width = (to - from) / NODES as f64;
    let top = at(peak);
    let sum: f64 = (1..NODES)
        .map(|node| (at(from + width * node as f64) - top).exp())
        .sum();
    top + (sum * width).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_growth_is_evident_soon() {
        let ticks = [100.0, 120.0, 80.0, 110.0, 95.0];
        let exact = log_e(&ticks, &ticks).unwrap();
        assert!(exact > 10.0, "{exact}");
        let four = log_e(&ticks[..4], &ticks[..4]).unwrap();
        assert!(four > 7.0 && four < exact, "{four}");
    }

    #[test]
    fn one_jump_is_no_drift_and_falling_is_none() {
        let ticks = [3.0; 10];
        let mut jump = [0.0; 10];
        jump[4] = 5_000.0;
        assert!(log_e(&jump, &ticks).unwrap() < 1.0);
        assert!(log_e(&[-10.0; 10], &ticks).unwrap() < 0.0);
        assert!(log_e(&[0.0; 10], &ticks).is_none());
        assert!(log_e(&[1.0; 3], &[0.0; 3]).is_none());
    }

    /// The mean of an e-value is at most 1 when nothing drifts: over 4,000 walks of 12 normal steps.
    #[test]
    fn wandering_gives_no_evidence_on_the_average() {
        let mut random = 0x3141_5926_5358_9793_u64;
        let mut chance = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut sum, mut high) = (0.0, 0);
        for _ in 0..4_000 {
            let steps: Vec<f64> = (0..12)
                .map(|_| (0..12).map(|_| chance()).sum::<f64>() - 6.0)
                .collect();
            let log = log_e(&steps, &[3.0; 12]).unwrap();
            sum += log.exp();
            high += u32::from(log > 3.0);
        }
        assert!(sum / 4_000.0 < 1.5, "{}", sum / 4_000.0);
        assert!(high < 200, "{high} of 4,000 above 20");
    }
}
