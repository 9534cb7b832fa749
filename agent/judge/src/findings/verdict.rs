//! The verdict and the sentence that gives its reason.

use crate::events::GOROUTINES;
use crate::growth::signals::{SignalKey, Signals};
use crate::report::{Basis, Cause, Finding, FindingState, Verdict, Window};

use super::inputs::Inputs;
use super::judge::Judge;
use super::options::{LEAST_REQUESTS, LOSS_ANY};
use super::units::{bytes, number};

impl Judge {
    /// The verdict over `findings`, and why.
    pub fn verdict(
        &self,
        findings: &[Finding],
        window: &Window,
        inputs: Inputs,
    ) -> (Verdict, String) {
        let lost = self.lost();
        if lost.worst() > LOSS_ANY {
            let (part, what) = if lost.blocks >= lost.requests {
                (
                    lost.blocks,
                    "blocks were lost (frees or returns missed, or a map full)",
                )
            } else {
                (lost.requests, "request records were lost")
            };
            let reason = format!(
                "{:.1} % of the {what}: too much for a verdict",
                100.0 * part
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
                "observed for {:.0} s; blocks are judged {:.0} s after their request, so at least {needed:.0} s \
                 are needed",
                window.seconds, self.options.maturity_seconds
            );
            return (Verdict::InsufficientEvidence, reason);
        }
        if window.requests < LEAST_REQUESTS {
            let reason = format!(
                "only {} requests were seen; {LEAST_REQUESTS} are needed to say that nothing grows",
                window.requests
            );
            return (Verdict::InsufficientEvidence, reason);
        }
        (Verdict::NoLeak, no_leak_sentence(findings, window))
    }
}

/// Levels of a signal that are enough to say that it does not grow.
const LEAST_LEVELS: usize = 5;

/// Why signals cannot show that nothing grows, if they cannot.
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
    Some(if containers && censuses > 0 {
        format!(
            "containers were counted {censuses} times, {cut} of these not to the end: too little for a verdict"
        )
    } else {
        "no live blocks were read: allocations are not watched in this mode, and neither containers, a \
         collector's heap nor page faults could be"
            .to_owned()
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
            "held by {} ({}), filled in {} (line {line})",
            container.path, container.kind, finding.site.function
        ),
        (None, Some(container)) => format!("held by {} ({})", container.path, container.kind),
        (Some(line), None) => format!("allocated in {} (line {line})", finding.site.function),
        (None, None) => "by what code is not known".to_owned(),
    };
    let per = match finding.cause {
        Cause::TokenKeyed => format!(
            "{} kept per new token, {} per repeated token",
            bytes(finding.retained_bytes_per_new_token),
            bytes(finding.retained_bytes_per_repeat_token)
        ),
        Cause::Background => format!(
            "{} per second without any request",
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
        return format!("{seen}, and nothing outlived its request in a growing amount.");
    };
    let what = match biggest.cause {
        Cause::BoundedCache => "a cache that lets go of what it takes",
        Cause::WarmUp => "a warm-up that has stopped or slows down",
        Cause::AllocatorRetention => "freed memory that the allocator keeps",
        Cause::WorkingSet => "memory of requests under way",
        _ => "memory that does not grow",
    };
    format!(
        "{seen}, and nothing grows without bounds: the most is {what} ({}).",
        biggest.route
    )
}
