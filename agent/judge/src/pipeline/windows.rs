//! Verdicts with windowed tracing (modes `sample` and `auto`). The verdict of the last window is kept until
//! the next window is long enough. While memory does not grow, no window is needed. Windowed tracing is
//! reported as a limitation.

use crate::events::Nanos;
use crate::findings::options::LEAST_REQUESTS;
use crate::report::{Finding, Lack, Verdict, Window};

/// Verdict, reason and findings.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) findings: Vec<Finding>,
}

/// The state of windowed tracing, and the judgement of the last window.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Whether a window is open. `None`: no windows; allocations are traced continuously, or never.
    open: Option<bool>,
    /// Start of the current window, or of the last one.
    begun: Option<Nanos>,
    /// A window has ended, so tracing was not continuous.
    ended: bool,
    /// Judgement at the end of the previous window.
    before: Option<Judgement>,
    /// Requests that had ended when the window began.
    requests: u64,
    /// Requests are not traced at present.
    unseen: bool,
    /// Requests were not traced at some time.
    were_unseen: bool,
}

impl Windows {
    /// A window begins. `last` is the current judgement, and `requests` have ended so far.
    pub(super) fn begin(&mut self, at: Nanos, last: Judgement, requests: u64) {
        self.requests = requests;
        self.before = self.begun.is_some().then_some(last);
        self.open = Some(true);
        self.begun = Some(at);
    }

    /// No window is open from now on. `start`: allocations were traced since then without an announced
    /// window, as at the start of mode `sample`.
    pub(super) fn end(&mut self, start: Option<Nanos>) {
        if self.open.is_none() {
            self.begun = start;
        }
        self.ended |= self.begun.is_some() && self.open != Some(false);
        self.open = Some(false);
    }

    /// Requests are traced from now on, or no longer.
    pub(super) fn requests(&mut self, seen: bool) {
        self.unseen = !seen;
        self.were_unseen |= !seen;
    }

    /// Whether requests are traced at present.
    pub(super) fn sees_requests(&self) -> bool {
        !self.unseen
    }

    /// Whether tracing of allocations is paused.
    pub(super) fn is_closed(&self) -> bool {
        self.open == Some(false)
    }

    /// Seconds since the window began.
    pub(super) fn seconds(&self, now: Nanos) -> Option<f64> {
        self.begun.map(|begun| now.since(begun))
    }

    /// The limitations from windowed tracing. `counted`: the containers of the program are counted.
    pub(super) fn limitations(&self, counted: bool) -> impl Iterator<Item = &'static str> {
        let of_requests = self.were_unseen.then_some(
            "requests are traced in windows, to stay within the overhead budget: during the pauses they are not \
             counted, and each route is assumed to have the same rate as before (mode trace traces all)",
        );
        self.of_allocations(counted).into_iter().chain(of_requests)
    }

    fn of_allocations(&self, counted: bool) -> Option<&'static str> {
        if counted {
            return self.ended.then_some(
                "allocations were traced in windows only, because memory grew by more than the containers that are \
                 counted (mode trace traces continuously)",
            );
        }
        if self.ended {
            return Some(
                "allocations are traced in windows, to stay within the overhead budget: the verdict is from \
                 the last window (mode trace traces continuously)",
            );
        }
        (self.is_closed() && self.begun.is_none()).then_some(
            "allocations are not traced while memory does not grow (mode trace traces continuously)",
        )
    }

    /// The seconds of the last window of tracing, if it was too short or had too little traffic to show that nothing
    /// grows.
    pub(super) fn too_thin(&self, now: Nanos, needed: f64, window: &Window) -> Option<f64> {
        self.open?;
        let seconds = self.seconds(now)?;
        // A window without traffic is not evidence about earlier findings.
        let enough = seconds >= needed && window.requests >= self.requests + LEAST_REQUESTS;
        let is_first = self.is_closed() && self.before.is_none();
        (!enough && !is_first).then_some(seconds)
    }

    /// What the verdict `no_leak` lacks, if `all` is lacking apart from tracing in windows.
    pub(super) fn lacks(
        &self,
        now: Nanos,
        needed: f64,
        mut all: Vec<Lack>,
        window: &Window,
    ) -> Vec<Lack> {
        if self.too_thin(now, needed, window).is_some() {
            all.push(Lack::Tracing);
        }
        all
    }

    /// The judgement that counts, given the judgement from the blocks seen so far. A window needs `needed`
    /// seconds before it can show that nothing grows.
    pub(super) fn standing(
        &self,
        now: Nanos,
        needed: f64,
        said: Judgement,
        window: &Window,
    ) -> Judgement {
        let known = matches!(said.verdict, Verdict::Leak | Verdict::Suspect);
        let Some(seconds) = self.too_thin(now, needed, window).filter(|_| !known) else {
            return said;
        };
        if let Some(before) = &self.before {
            return before.clone();
        }
        Judgement {
            verdict: Verdict::InsufficientEvidence,
            reason: if seconds < needed {
                format!(
                    "Allocations have been traced for {seconds:.0} s; {needed:.0} s are needed."
                )
            } else {
                format!(
                    "Only {} requests while allocations were traced; {LEAST_REQUESTS} are needed.",
                    window.requests.saturating_sub(self.requests)
                )
            },
            findings: said.findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            reason: format!("{verdict:?}"),
            findings: Vec::new(),
        }
    }

    /// The verdict at `second` if the blocks give `verdict`.
    fn stands(windows: &Windows, second: f64, verdict: Verdict) -> Verdict {
        let window = Window {
            seconds: second,
            requests: 1000,
            ..Window::default()
        };
        let now = Nanos::from_seconds(second);
        windows.standing(now, 20.0, said(verdict), &window).verdict
    }

    #[test]
    fn without_windows_nothing_is_changed() {
        let mut windows = Windows::default();
        let verdict = stands(&windows, 60.0, Verdict::InsufficientEvidence);
        assert_eq!(verdict, Verdict::InsufficientEvidence);
        assert_eq!(windows.limitations(false).count(), 0);
        windows.requests(false);
        windows.requests(true);
        assert!(windows.sees_requests());
        assert!(
            windows
                .limitations(false)
                .all(|said| said.contains("requests are traced in windows"))
        );
        assert_eq!(windows.limitations(false).count(), 1);
    }

    #[test]
    fn a_window_without_traffic_changes_nothing() {
        let mut windows = Windows::default();
        windows.end(None);
        windows.begin(Nanos::from_seconds(30.0), said(Verdict::NoLeak), 0);
        windows.end(None);
        windows.begin(Nanos::from_seconds(600.0), said(Verdict::Leak), 980);
        assert_eq!(stands(&windows, 660.0, Verdict::NoLeak), Verdict::Leak);
        windows.begin(Nanos::from_seconds(700.0), said(Verdict::Leak), 900);
        assert_eq!(stands(&windows, 760.0, Verdict::NoLeak), Verdict::NoLeak);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut windows = Windows::default();
        windows.begin(Nanos(0), said(Verdict::InsufficientEvidence), 1_000);
        let reason = |second: f64, requests: u64| {
            let window = Window {
                requests: 1_000 + requests,
                ..Window::default()
            };
            let now = Nanos::from_seconds(second);
            let standing = windows.standing(now, 20.0, said(Verdict::NoLeak), &window);
            standing.reason
        };
        assert!(reason(10.0, 500).ends_with("for 10 s; 20 s are needed."));
        assert!(reason(30.0, 7).starts_with("Only 7 requests while"));
        assert_eq!(reason(30.0, 500), "NoLeak");
    }

    #[test]
    fn a_window_speaks_when_it_is_old_enough_and_its_word_stands_until_the_next() {
        let mut windows = Windows::default();
        windows.end(None);
        windows.begin(Nanos::from_seconds(30.0), said(Verdict::NoLeak), 0);
        let unseen = Verdict::InsufficientEvidence;
        assert_eq!(
            stands(&windows, 40.0, Verdict::NoLeak),
            unseen,
            "memory grows, and the window is too short"
        );
        assert_eq!(
            stands(&windows, 45.0, Verdict::Suspect),
            Verdict::Suspect,
            "a suspicion counts at once"
        );
        assert_eq!(stands(&windows, 60.0, Verdict::NoLeak), Verdict::NoLeak);
        windows.end(None);
        assert_eq!(stands(&windows, 900.0, Verdict::Suspect), Verdict::Suspect);
        windows.begin(Nanos::from_seconds(1000.0), said(Verdict::Suspect), 0);
        assert_eq!(stands(&windows, 1005.0, unseen), Verdict::Suspect);
        assert_eq!(stands(&windows, 1025.0, Verdict::NoLeak), Verdict::NoLeak);
    }
}
