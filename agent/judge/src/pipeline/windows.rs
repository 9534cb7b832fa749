//! Verdicts where allocations are watched in windows only (modes `sample` and `auto`): what the last
//! window said stands until the next one can say something, and while memory does not grow no window is needed.
//! Where requests are seen in windows only, that is said.

use crate::events::Nanos;
use crate::findings::options::LEAST_REQUESTS;
use crate::report::{Finding, Memory, Verdict, Window};

/// What is judged.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) findings: Vec<Finding>,
}

/// Whether allocations are watched now, and what was found when they were.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// `None`: there are no windows: allocations are watched all the time, or never.
    open: Option<bool>,
    /// When the window began, the last one if none is open.
    begun: Option<Nanos>,
    /// A window has ended: not everything was seen.
    ended: bool,
    /// Judged at the end of the window before.
    before: Option<Judgement>,
    /// Requests are not seen at present.
    unseen: bool,
    /// There were times when they were not.
    were_unseen: bool,
}

impl Windows {
    /// A window begins; `last` is what is thought now.
    pub(super) fn begin(&mut self, at: Nanos, last: Judgement) {
        self.before = self.begun.is_some().then_some(last);
        self.open = Some(true);
        self.begun = Some(at);
    }

    /// No window is open from now on. `start`: allocations were watched since then although no window
    /// was announced, as at first in mode `sample`.
    pub(super) fn end(&mut self, start: Option<Nanos>) {
        if self.open.is_none() {
            self.begun = start;
        }
        self.ended |= self.begun.is_some() && self.open != Some(false);
        self.open = Some(false);
    }

    /// Requests are seen from now on, or no longer.
    pub(super) fn requests(&mut self, seen: bool) {
        self.unseen = !seen;
        self.were_unseen |= !seen;
    }

    /// Whether requests are seen at present.
    pub(super) fn sees_requests(&self) -> bool {
        !self.unseen
    }

    /// No window of allocations is open.
    pub(super) fn is_closed(&self) -> bool {
        self.open == Some(false)
    }

    /// Seconds since the window began.
    pub(super) fn seconds(&self, now: Nanos) -> Option<f64> {
        self.begun.map(|begun| now.since(begun))
    }

    /// What a reader has to know of the windows.
    pub(super) fn limitations(&self) -> impl Iterator<Item = &'static str> {
        let of_requests = self.were_unseen.then_some(
            "requests are seen in windows, to keep within the overhead budget: in the pauses they are taken to come \
             as they did before, and are not counted (mode trace sees all)",
        );
        self.of_allocations().into_iter().chain(of_requests)
    }

    fn of_allocations(&self) -> Option<&'static str> {
        if self.ended {
            return Some(
                "allocations are watched in windows, to keep within the overhead budget; the verdict rests on \
                 the last window (mode trace watches all the time)",
            );
        }
        (self.is_closed() && self.begun.is_none()).then_some(
            "allocations are not watched as long as memory does not grow (mode trace watches all the time)",
        )
    }

    /// What stands, given what the blocks seen say. `needed` seconds of a window are needed to say that
    /// nothing grows.
    pub(super) fn standing(
        &self,
        now: Nanos,
        needed: f64,
        said: Judgement,
        window: &Window,
        memory: &Memory,
    ) -> Judgement {
        if self.open.is_none() || matches!(said.verdict, Verdict::Leak | Verdict::Suspect) {
            return said;
        }
        let Some(seconds) = self.seconds(now) else {
            return still(said, needed, window, memory);
        };
        if self.is_closed() || seconds >= needed {
            return said;
        }
        if let Some(before) = &self.before {
            return before.clone();
        }
        Judgement {
            verdict: Verdict::InsufficientEvidence,
            reason: format!(
                "memory grows: allocations are watched since {seconds:.0} s, {needed:.0} s are needed"
            ),
            findings: said.findings,
        }
    }
}

/// There was no reason to watch allocations yet.
fn still(said: Judgement, needed: f64, window: &Window, memory: &Memory) -> Judgement {
    if said.verdict != Verdict::InsufficientEvidence
        || window.requests < LEAST_REQUESTS
        || window.seconds < needed
    {
        return said;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Judgement {
        verdict: Verdict::NoLeak,
        reason: format!(
            "{} requests in {:.0} s, and memory does not grow: {:.1} MiB at first, {:.1} MiB now.",
            window.requests,
            window.seconds,
            mib(memory.rss_start_bytes),
            mib(memory.rss_end_bytes)
        ),
        findings: said.findings,
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

    /// What stands at `second`, when the blocks say `verdict`.
    fn stands(windows: &Windows, second: f64, verdict: Verdict) -> Verdict {
        let window = Window {
            seconds: second,
            requests: 1000,
            ..Window::default()
        };
        let now = Nanos::from_seconds(second);
        let memory = Memory::default();
        windows
            .standing(now, 20.0, said(verdict), &window, &memory)
            .verdict
    }

    #[test]
    fn without_windows_nothing_is_changed() {
        let mut windows = Windows::default();
        let verdict = stands(&windows, 60.0, Verdict::InsufficientEvidence);
        assert_eq!(verdict, Verdict::InsufficientEvidence);
        assert_eq!(windows.limitations().count(), 0);
        windows.requests(false);
        windows.requests(true);
        assert!(windows.sees_requests());
        assert!(
            windows
                .limitations()
                .all(|said| said.contains("requests are seen in windows"))
        );
        assert_eq!(windows.limitations().count(), 1);
    }

    #[test]
    fn memory_that_does_not_grow_is_no_leak_though_no_block_was_seen() {
        let mut windows = Windows::default();
        windows.end(None);
        let unseen = Verdict::InsufficientEvidence;
        assert_eq!(stands(&windows, 10.0, unseen), unseen, "too early");
        assert_eq!(stands(&windows, 30.0, unseen), Verdict::NoLeak);
        assert_eq!(windows.limitations().count(), 1);
    }

    #[test]
    fn a_window_speaks_when_it_is_old_enough_and_its_word_stands_until_the_next() {
        let mut windows = Windows::default();
        windows.end(None);
        windows.begin(Nanos::from_seconds(30.0), said(Verdict::NoLeak));
        let unseen = Verdict::InsufficientEvidence;
        assert_eq!(
            stands(&windows, 40.0, Verdict::NoLeak),
            unseen,
            "memory grows, and nobody knows why yet"
        );
        assert_eq!(
            stands(&windows, 45.0, Verdict::Suspect),
            Verdict::Suspect,
            "a suspicion needs no patience"
        );
        assert_eq!(stands(&windows, 60.0, Verdict::NoLeak), Verdict::NoLeak);
        windows.end(None);
        assert_eq!(stands(&windows, 900.0, Verdict::Suspect), Verdict::Suspect);
        windows.begin(Nanos::from_seconds(1000.0), said(Verdict::Suspect));
        assert_eq!(stands(&windows, 1005.0, unseen), Verdict::Suspect);
        assert_eq!(stands(&windows, 1025.0, Verdict::NoLeak), Verdict::NoLeak);
    }
}
