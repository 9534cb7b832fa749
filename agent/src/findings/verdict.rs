//! The verdict and the sentence that gives its reason.

use crate::report::{Cause, Finding, State, Verdict, Window};

use super::Judge;
use super::evidence::{bytes, number};
use super::options::{LEAST_REQUESTS, LOSS_ANY};

impl Judge {
    /// The verdict over `findings`, and why. `snapshots`: how often blocks were read.
    pub fn verdict(
        &self,
        findings: &[Finding],
        window: &Window,
        snapshots: u64,
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
        if let Some(worst) = findings.iter().find(|finding| finding.state > State::None) {
            let verdict = if worst.state == State::Confirmed {
                Verdict::Leak
            } else {
                Verdict::Suspect
            };
            return (verdict, leak_sentence(worst));
        }
        if snapshots == 0 {
            let reason = "no live blocks were read: allocations are not watched in this mode";
            return (Verdict::InsufficientEvidence, reason.to_owned());
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

fn leak_sentence(finding: &Finding) -> String {
    let sure = if finding.state == State::Confirmed {
        "grows without bounds"
    } else {
        "may grow without bounds"
    };
    let place = match finding.site.line {
        Some(line) => format!("{} (line {line})", finding.site.function),
        None => finding.site.function.clone(),
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
    format!("{} {sure}: {per}, allocated in {place}.", finding.route)
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
