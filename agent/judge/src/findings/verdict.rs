//! The verdict and the sentence with its reason.

use crate::events::GOROUTINES;
use crate::growth::signals::{SignalKey, Signals};
use crate::report::{Basis, Cause, Finding, FindingState, Verdict, Window};

use super::inputs::Inputs;
use super::judge::Judge;
use super::options::{LEAST_REQUESTS, LOSS_ANY};
use super::units::{bytes, number};

impl Judge {
    /// The verdict for `findings`, and its reason.
    pub fn verdict(
        &self,
        findings: &[Finding],
        window: &Window,
        inputs: Inputs,
    ) -> (Verdict, String) {
        let lost = self.lost();
        if lost.worst() > LOSS_ANY {
            let (part, what) = if lost.blocks >= lost.requests {
                (lost.blocks, "blocks")
            } else {
                (lost.requests, "request records")
            };
            let reason = format!(
                "{:.1} % of {what} were lost; at most {:.0} % may be.",
                100.0 * part,
                100.0 * LOSS_ANY
            );
            return (Verdict::InsufficientEvidence, reason);
        }
        if let Some(worst) = findings
            .iter()
            .find(|finding| finding.state > FindingState::None)
        {
            let verdict = if worst.state == FindingState::Confirmed {
                Verdict::Leak
            } else {
                Verdict::Suspect
            };
            return (verdict, leak_sentence(worst));
        }
        if !inputs.growth.sees_blocks()
            && let Some(reason) = unseen(inputs.signals)
        {
            return (Verdict::InsufficientEvidence, reason);
        }
        let needed = 2.0 * self.options.maturity_seconds;
        if window.seconds < needed {
            let reason = format!(
                "Observed for {:.0} s only; at least {needed:.0} s are needed, because blocks are judged {:.0} s \
                 after their request.",
                window.seconds, self.options.maturity_seconds
            );
            return (Verdict::InsufficientEvidence, reason);
        }
        if window.requests < LEAST_REQUESTS {
            let reason = format!(
                "Only {} requests so far; {LEAST_REQUESTS} are needed.",
                window.requests
            );
            return (Verdict::InsufficientEvidence, reason);
        }
        if let Some(runtime) = inputs.unseen_heap {
            return (Verdict::InsufficientEvidence, unseen_heap(runtime));
        }
        (Verdict::NoLeak, no_leak_sentence(findings, window))
    }
}

/// Nothing was found in a process whose objects cannot be seen. Garbage that was not collected yet is no growth, and
/// growth into memory that the runtime holds already moves nothing: neither way is there a verdict.
fn unseen_heap(runtime: &str) -> String {
    format!(
        "The objects of {runtime} are in a heap of its own that heaptide does not read, so a leak among them could be \
         missed. Nothing else grows. The resident memory after several full collections would tell: compare it over \
         hours, or take two heap snapshots with the runtime's own tools."
    )
}

/// Minimum levels of a signal for the verdict `no_leak`.
const LEAST_LEVELS: usize = 5;

/// Why the growth signals are too few for a verdict, if they are.
fn unseen(signals: &Signals) -> Option<String> {
    let levels = |key: SignalKey| signals.family(&key).ticks().len();
    let (censuses, cut) = signals.censuses();
    let containers = signals
        .family(&SignalKey::Container(String::new(), String::new()))
        .signals()
        .any(|(key, _)| !matches!(key, SignalKey::Container(_, kind) if kind == GOROUTINES));
    if containers && censuses >= LEAST_LEVELS as u64 && 2 * cut <= censuses
        || levels(SignalKey::Heap) >= LEAST_LEVELS
        || levels(SignalKey::Faults) >= LEAST_LEVELS
    {
        return None;
    }
    Some(if !containers || censuses == 0 {
        "No evidence: allocations are not traced in this mode, and neither containers, a collector's heap \
         nor page faults could be read."
            .to_owned()
    } else if censuses >= LEAST_LEVELS as u64 {
        format!("{cut} of {censuses} censuses were cut short; at most half may be.")
    } else {
        let plural = if censuses == 1 { "census" } else { "censuses" };
        format!("Only {censuses} {plural} so far; {LEAST_LEVELS} are needed.")
    })
}

fn leak_sentence(finding: &Finding) -> String {
    let sure = if finding.state == FindingState::Confirmed {
        "grows without bounds"
    } else {
        "may grow without bounds"
    };
    let place = match (finding.site.line, &finding.container) {
        (Some(line), _) if finding.basis == Basis::Blocks => {
            format!("allocated in {} (line {line})", finding.site.function)
        }
        (None, _) if finding.basis == Basis::Blocks => {
            format!("allocated in {}", finding.site.function)
        }
        (Some(line), Some(container)) => format!(
            "held by {} ({}), written in {} (line {line})",
            container.path, container.kind, finding.site.function
        ),
        (None, Some(container)) => format!("held by {} ({})", container.path, container.kind),
        (Some(line), None) => format!("allocated in {} (line {line})", finding.site.function),
        (None, None) => "by unknown code".to_owned(),
    };
    let per = match finding.cause {
        Cause::TokenKeyed => format!(
            "{} kept per new token, {} per repeated token",
            bytes(finding.retained_bytes_per_new_token),
            bytes(finding.retained_bytes_per_repeat_token)
        ),
        Cause::Background => format!(
            "{} per second without requests",
            bytes(finding.growth_bytes_per_second)
        ),
        _ => format!(
            "{} kept per request",
            bytes(finding.retained_bytes_per_request)
        ),
    };
    format!("{} {sure}: {per}, {place}.", finding.route)
}

fn no_leak_sentence(findings: &[Finding], window: &Window) -> String {
    let seen = format!(
        "{} requests in {:.0} s",
        number(window.requests as f64),
        window.seconds
    );
    let Some(biggest) = findings.first() else {
        return format!("{seen}. No memory that outlives its request grows.");
    };
    let what = match biggest.cause {
        Cause::BoundedCache => "a cache that evicts as much as it adds",
        Cause::WarmUp => "a warm-up that has stopped or slows down",
        Cause::AllocatorRetention => "freed memory that the allocator keeps",
        Cause::WorkingSet => "memory of requests in flight",
        _ => "memory that does not grow",
    };
    format!(
        "{seen}. Nothing grows without bounds; the largest part is {what} ({}).",
        biggest.route
    )
}
