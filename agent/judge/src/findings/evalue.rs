//! E-values of series, and the control of the false discovery rate.
//!
//! Null hypothesis: at most the part `kept` of matured memory survives. (A full cache retains nothing on
//! balance.) With `s` live and `f` evicted holders, the e-value is the mean of the likelihood ratio
//! `(k/kept)^s ((1-k)/(1-kept))^f` over a grid of larger parts `k`. It is a mixture of non-negative
//! supermartingales, so under the null hypothesis its expectation is at most 1 at any stopping time. It may
//! be tested again every few seconds. Over `m` series, e-BH (Wang and Ramdas 2022) selects the `r` largest
//! e-values if the r-th is at least `m / (alpha r)`. The false discovery rate is then at most `alpha` under
//! any dependence between series.

/// Alternatives: surviving parts.
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

/// The smallest `log_e` among `logs` that is a discovery at false discovery rate `alpha`, given the number
/// of judged series. Infinity without a discovery.
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
