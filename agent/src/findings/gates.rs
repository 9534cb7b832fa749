//! The gates of one series: does it grow without bounds, or why not.

use super::evalue::log_e;
use super::options::{
    EVICTING, FRESH, KEPT, LEAST_HOLDERS, LEAST_SECONDS, LEVEL, LINEAR, QUIET_SECONDS, RECORD,
};
use super::window::{View, Window};

/// What the gates say of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It grows: the longest window in which it passes every gate.
    Growing {
        /// Figures of that window.
        window: Window,
        /// Natural logarithm of the e-value against "it lets go of at least 1 - [`KEPT`]".
        log_e: f64,
    },
    /// It does not.
    Still(Why),
}

/// Why a series does not grow without bounds, as far as one can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too little has matured to say anything.
    TooFew,
    /// It lets go of what it takes.
    Evicts,
    /// It has stopped, or slows down.
    Stopped,
}

/// Puts one series through the gates.
pub fn judge(view: &View) -> Outcome {
    let Some(first) = view.first() else {
        return Outcome::Still(Why::TooFew);
    };
    let whole = view.window(first);
    let Some(why) = gate(view, &whole, first) else {
        return growing(whole);
    };
    // A late onset is hidden in the whole history, so shorter windows may speak too; but not for a
    // series that is known to let go.
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
    let log_e = log_e(window.alive, window.holders - window.alive, KEPT);
    Outcome::Growing { window, log_e }
}

/// The first gate that `window` does not pass.
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
        // what came in one go and has been quiet since has stopped
        let quiet = window.from == first
            && window.holders >= LEAST_HOLDERS
            && window.seconds >= QUIET_SECONDS;
        return Some(if quiet { still } else { Why::TooFew });
    }
    // eviction: over the window, and of what is old enough to have been let go
    if window.net < KEPT * window.matured || window.kept_old < KEPT {
        return Some(if window.evicted > (1.0 - KEPT) * 0.5 * window.matured {
            Why::Evicts
        } else {
            still
        });
    }
    if window.linearity < LINEAR || window.freshness.is_some_and(|fresh| fresh < FRESH) {
        return Some(still);
    }
    // records: what is left in the last third is not below anything that was there before it, and
    // clearly above all that was there before the window
    if window.late_floor <= view.before(window.from)
        || window.late_floor < LEVEL * view.peak_before(window.late_from)
        || window.late_floor < RECORD * view.peak_before(window.from)
    {
        return Some(still);
    }
    None
}
