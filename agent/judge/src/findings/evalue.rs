//! E-values: the evidence of one series, and the control of false discoveries over many.
//!
//! Hypothesis of a series: of what matures, at most the part `kept` stays (a bounded cache that is
//! full keeps nothing on the balance). With `s` holders live and `f` let go, the e-value is the mean,
//! over a grid of greater parts `k`, of the likelihood ratio `(k/kept)^s ((1-k)/(1-kept))^f`. Under
//! the hypothesis its expectation is at most 1 at any time one looks (a mixture of non-negative
//! supermartingales), so looking again every few seconds is no cheating. Over `m` series, e-BH
//! (Wang and Ramdas 2022) keeps the `r` greatest when the r-th is at least `m / (alpha r)`: the false
//! discovery rate is at most `alpha` whatever the dependence between series.

/// Alternatives: parts that stay.
const GRID: [f64; 8] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/// Natural logarithm of the e-value of `stayed` against `gone` under "at most `kept` stays".
pub fn log_e(stayed: f64, gone: f64, kept: f64) -> f64 {
    let gone = gone.max(0.0);
    let logs = GRID.map(|k| {
        if k <= kept {
            return f64::NEG_INFINITY;
        }
        stayed * (k / kept).ln() + gone * ((1.0 - k) / (1.0 - kept)).ln()
    });
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return f64::NEG_INFINITY;
    }
    most + (logs.iter().map(|log| (log - most).exp()).sum::<f64>() / GRID.len() as f64).ln()
}

/// The least `log_e` that counts as a discovery among all `logs` (of all series judged) at false
/// discovery rate `alpha`; infinity when none does.
pub fn e_bh(logs: &[f64], series: usize, alpha: f64) -> f64 {
    let mut sorted = logs.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let enough = |rank: usize, log: f64| log >= (series as f64 / (alpha * rank as f64)).ln();
    sorted
        .iter()
        .enumerate()
        .rev()
        .find(|(index, log)| enough(index + 1, **log))
        .map_or(f64::INFINITY, |(_, log)| *log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_grows_with_what_stays_and_falls_with_what_goes() {
        assert!(log_e(30.0, 0.0, 0.3) > 20.0);
        assert!(log_e(600.0, 400.0, 0.3) > 100.0);
        assert!(log_e(300.0, 700.0, 0.3) < 1.0);
        assert!(log_e(0.0, 100.0, 0.3) < -10.0);
    }

    #[test]
    fn more_series_need_more_evidence() {
        let logs = [9.0, 8.0, 2.0, 0.0];
        assert!((e_bh(&logs, 4, 0.05) - 8.0).abs() < 1e-9);
        assert!(e_bh(&logs, 1_000_000, 0.05).is_infinite());
        assert!(e_bh(&[], 10, 0.05).is_infinite());
    }
}
