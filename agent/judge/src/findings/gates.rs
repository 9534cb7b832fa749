//! The gates: whether one series grows without bounds, or why not.

use super::evalue::log_e;
use super::options::{
    EVICTING, FRESH, KEPT, LEAST_HOLDERS, LEAST_SECONDS, LEVEL, LINEAR, QUIET_SECONDS, RECORD,
};
use super::window::{View, Window};

/// Result of the gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It grows. The window is the longest one in which it passes every gate.
    Growing {
        /// Figures of that window.
        window: Window,
        /// Natural logarithm of the e-value against "it lets go of at least 1 - [`KEPT`]".
        log_e: f64,
    },
    /// It does not grow.
    Still(Why),
}

/// Why a series does not pass the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too little has matured.
    TooFew,
    /// It evicts what it adds.
    Evicts,
    /// Its growth has stopped or slows down.
    Stopped,
}

/// Tests one series.
pub fn judge(view: &View) -> Outcome {
    let Some(first) = view.first() else {
        return Outcome::Still(Why::TooFew);
    };
    let whole = view.window(first);
    let Some(why) = gate(view, &whole, first) else {
        return growing(whole);
    };
    // A late onset is hidden in the whole history, so shorter windows are tested too, unless 20 % or more
    // was evicted before them.
    let last = view.len() - 1;
    let mut seconds = whole.seconds / 2.0;
    while seconds >= LEAST_SECONDS {
        let start = view.epochs.now().seconds() - seconds;
        let Some(from) = (first..last).find(|i| view.epochs.start(*i).seconds() >= start) else {
            break;
        };
        if from > first && view.evicting_before(from) < EVICTING {
            let window = view.window(from);
            if gate(view, &window, first).is_none() {
                return growing(window);
            }
        }
        seconds /= 2.0;
    }
    Outcome::Still(why)
}

fn growing(window: Window) -> Outcome {
    // Older blocks that were freed count as holders that went, at most as many as stayed.
    let returned = window.alive * (window.released() / window.matured.max(1.0)).min(1.0);
    let gone = window.holders - window.alive + returned;
    let log_e = log_e(window.alive - returned, gone, KEPT);
    Outcome::Growing { window, log_e }
}

/// The first gate that `window` fails.
fn gate(view: &View, window: &Window, first: usize) -> Option<Why> {
    let lifetime_evicts = view.evicting_before(view.len()) >= EVICTING;
    let still = if lifetime_evicts {
        Why::Evicts
    } else {
        Why::Stopped
    };
    let epochs = (window.from..view.len()).filter(|i| view.series.epochs[*i].matured() > 0.0);
    let enough = window.holders >= LEAST_HOLDERS && epochs.count() >= 2;
    if !enough || window.seconds < LEAST_SECONDS {
        // A series that grew once and not since has stopped.
        let quiet = window.from == first
            && window.holders >= LEAST_HOLDERS
            && window.seconds >= QUIET_SECONDS;
        return Some(if quiet { still } else { Why::TooFew });
    }
    // Eviction: over the window, and of the memory that is old enough to be evicted.
    let net = window.net - window.released();
    if net < KEPT * window.matured || window.kept_old < KEPT {
        let gone = window.evicted + window.released();
        return Some(if gone > (1.0 - KEPT) * 0.5 * window.matured {
            Why::Evicts
        } else {
            still
        });
    }
    if window.linearity < LINEAR || window.freshness.is_some_and(|fresh| fresh < FRESH) {
        return Some(still);
    }
    // Records: the floor of the last third is not below any earlier level, and clearly above the peak
    // before the window.
    if window.late_floor <= view.before(window.from)
        || window.late_floor < LEVEL * view.peak_before(window.late_from)
        || window.late_floor < RECORD * view.peak_before(window.from)
    {
        return Some(still);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Nanos;
    use crate::growth::Exposure;
    use crate::growth::epochs::Epochs;
    use crate::growth::series::{Epoch, Series};

    /// Judges a series of 2 s epochs, `(bytes matured, of those live, bytes evicted)`; 100 bytes are
    /// one holder, and there are 100 requests with new tokens in each epoch.
    fn judged(rows: &[(f64, f64, f64)]) -> Outcome {
        let mut epochs = Epochs::new(Nanos(0));
        let mut series = Series::new(0);
        let mut live_bytes = 0.0;
        for (index, (matured, live, evicted)) in rows.iter().copied().enumerate() {
            epochs.push(Nanos((index as u64 + 1) * 2_000_000_000));
            live_bytes += matured - evicted;
            let mut epoch = Epoch {
                floor: live_bytes,
                peak: live_bytes,
                end: live_bytes,
                evicted,
                ..Epoch::default()
            };
            epoch.cohorts[0].matured = matured as f32;
            epoch.cohorts[0].live = live as f32;
            epoch.cohorts[0].holders = (matured / 100.0) as u32;
            epoch.cohorts[0].alive = (live / 100.0) as u32;
            series.epochs.push(epoch);
            series.matured_bytes += matured;
            series.evicted_bytes += evicted;
        }
        let exposures: Vec<Exposure> = vec![[100, 0, 0, 0]; rows.len()];
        judge(&View {
            series: &series,
            exposures: &exposures,
            epochs: &epochs,
        })
    }

    const STEADY: (f64, f64, f64) = (5_000.0, 5_000.0, 0.0);
    const NOTHING: (f64, f64, f64) = (0.0, 0.0, 0.0);

    #[track_caller]
    fn grows(rows: &[(f64, f64, f64)]) {
        assert!(
            matches!(judged(rows), Outcome::Growing { .. }),
            "{:?}",
            judged(rows)
        );
    }

    #[track_caller]
    fn still(rows: &[(f64, f64, f64)], why: Why) {
        assert_eq!(judged(rows), Outcome::Still(why));
    }

    #[test]
    fn steady_growth_passes() {
        grows(&[STEADY; 3]);
        grows(&[STEADY; 20]);
        // After ten quiet epochs.
        grows(&[[NOTHING; 10], [STEADY; 10]].concat());
        // 40 % of each epoch evicted one epoch later.
        grows(&[vec![STEADY], vec![(5_000.0, 3_000.0, 2_000.0); 15]].concat());
        still(&[STEADY; 1], Why::TooFew);
        still(&[NOTHING; 9], Why::TooFew);
    }

    #[test]
    fn what_slows_down_has_stopped() {
        // The recent part passes freshness, and nothing was evicted: only linearity fails.
        let rows: Vec<_> = (0..20)
            .map(|i| 10_000.0 * f64::exp(-f64::from(i) / 12.0))
            .map(|bytes| (bytes, bytes, 0.0))
            .collect();
        still(&rows, Why::Stopped);
    }

    #[test]
    fn what_has_stopped_lately_has_stopped() {
        // The later half still has 60 % of the growth of the earlier: only freshness fails.
        still(&[vec![STEADY; 16], vec![NOTHING; 4]].concat(), Why::Stopped);
    }

    #[test]
    fn what_only_fills_up_again_is_no_record() {
        // A quarter was evicted and came again, but not above the earlier peak.
        let mut rows = vec![STEADY; 14];
        rows[2].1 = 0.0;
        rows[3].1 = 0.0;
        rows[4].1 = 0.0;
        rows[5].1 = 0.0;
        rows[13].2 = 20_000.0;
        rows.extend([(2_500.0, 2_500.0, 0.0); 4]);
        still(&rows, Why::Evicts);
    }

    #[test]
    fn a_plateau_needs_more_than_a_scratch() {
        // A big warm-up, then 1 % more.
        let scratch = [
            vec![(100_000.0, 100_000.0, 0.0); 3],
            vec![NOTHING; 400],
            vec![(1_000.0, 1_000.0, 0.0); 4],
        ];
        still(&scratch.concat(), Why::Stopped);
        let real = [
            vec![(100_000.0, 100_000.0, 0.0); 3],
            vec![NOTHING; 90],
            vec![(10_000.0, 10_000.0, 0.0); 6],
        ];
        grows(&real.concat());
    }

    #[test]
    fn a_full_cache_evicts() {
        let rows = [
            vec![STEADY; 6],
            vec![(5_000.0, 0.0, 5_000.0); 6],
            vec![(5_000.0, 5_000.0, 5_000.0); 6],
        ];
        still(&rows.concat(), Why::Evicts);
    }
}
