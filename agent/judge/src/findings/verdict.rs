//! The verdict and the sentence with its reason.

use crate::growth::signals::SignalKey;
use crate::report::{Basis, Bound, Cause, Finding, FindingState, Lack, Verdict, Window};

use super::inputs::Inputs;
use super::judge::Judge;
use super::options::{LEAST_LEVELS, LEAST_REQUESTS, LOSS_ANY};
use super::residency;
use super::resident_routes::keeper;
use super::signals::compose::is_object;
use super::units::{bytes, duration, number};

impl Judge {
    /// The verdict for `findings`, and its reason. Without a verdict, tokens that stay in memory are a hint.
    pub fn verdict(
        &self,
        findings: &[Finding],
        window: &Window,
        inputs: Inputs,
    ) -> (Verdict, String) {
        let (verdict, mut reason) = self.verdict_of(findings, window, inputs);
        if verdict == Verdict::InsufficientEvidence
            && let Some(summary) = self.residents.summary(inputs.now)
            && residency::are_kept(&summary)
        {
            let keeper = keeper(self.residents.sample(), inputs.attribution);
            let full = keeper
                .as_ref()
                .and_then(|keeper| self.replaces_tokens(keeper, inputs));
            let said = keeper.map_or(summary.said, |keeper| keeper.said);
            reason = match full {
                Some(full) => format!("{reason} A hint: {said}; {full}."),
                None => format!("{reason} A hint: {said}, as in a leak or a cache."),
            };
        }
        (verdict, reason)
    }

    fn verdict_of(
        &self,
        findings: &[Finding],
        window: &Window,
        inputs: Inputs,
    ) -> (Verdict, String) {
        if let Some(reason) = self.too_many_losses() {
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
        if let Some((_, reason)) = self.lacking(window, inputs).into_iter().next() {
            return (Verdict::InsufficientEvidence, reason);
        }
        let horizon = self.options.horizon_seconds;
        let bound = self.bound(inputs).map_or_else(String::new, |bound| {
            format!(" {}", bound_sentence(&bound, horizon))
        });
        let said = no_leak_sentence(findings, window);
        (Verdict::NoLeak, format!("{said}{bound}"))
    }

    /// Why a loss forbids any verdict.
    fn too_many_losses(&self) -> Option<String> {
        let lost = self.lost();
        let (part, what) = if lost.blocks >= lost.requests {
            (lost.blocks, "blocks")
        } else {
            (lost.requests, "request records")
        };
        (lost.worst() > LOSS_ANY).then(|| {
            format!(
                "{:.1} % of {what} were lost; at most {:.0} % may be.",
                100.0 * part,
                100.0 * LOSS_ANY
            )
        })
    }

    /// Evidence that `no_leak` needs and that is missing, whether or not something was found.
    pub fn lacks(&self, window: &Window, inputs: Inputs) -> Vec<Lack> {
        let lost = self.too_many_losses().map(|_| Lack::Losses);
        let others = self.lacking(window, inputs);
        lost.into_iter()
            .chain(others.into_iter().map(|(lack, _)| lack))
            .collect()
    }

    /// The same without losses, each with a sentence.
    fn lacking(&self, window: &Window, inputs: Inputs) -> Vec<(Lack, String)> {
        let mut all = Vec::new();
        if let Some(reason) = unseen(inputs) {
            all.push((Lack::Readings, reason));
        }
        let needed = 2.0 * self.options.maturity_seconds;
        if window.seconds < needed {
            let reason = format!(
                "Observed for {:.0} s only; at least {needed:.0} s are needed, because blocks are judged {:.0} s \
                 after their request.",
                window.seconds, self.options.maturity_seconds
            );
            all.push((Lack::Time, reason));
        }
        if window.requests < LEAST_REQUESTS {
            let reason = format!(
                "Only {} requests so far; {LEAST_REQUESTS} are needed.",
                window.requests
            );
            all.push((Lack::Requests, reason));
        }
        if let Some(runtime) = inputs.unseen_heap {
            all.push((Lack::UnseenHeap, unseen_heap(runtime)));
        }
        let Some(bound) = self.bound(inputs) else {
            let reason = "The memory of the process was read too few times so far.".to_owned();
            all.push((Lack::Bound, reason));
            return all;
        };
        let horizon = self.options.horizon_seconds;
        if bound.lasts_seconds.is_some_and(|lasts| lasts < horizon) {
            all.push((Lack::Horizon, open_sentence(&bound, window, horizon)));
        }
        all
    }
}

/// The reason if nothing was found in a process whose objects cannot be seen. There is no verdict, because garbage
/// may look like growth, and growth within memory that the runtime already holds is not visible.
fn unseen_heap(runtime: &str) -> String {
    format!(
        "The objects of {runtime} are in a heap of its own that heaptide does not read, so a leak among them could be \
         missed. Nothing else grows. To find such a leak, compare the resident memory after several full collections \
         over hours, or take two heap snapshots with the runtime's own tools."
    )
}

/// Why the signals of a heap that is read are too few for a verdict, if they are.
fn unseen(inputs: Inputs) -> Option<String> {
    let signals = inputs.signals;
    let (censuses, cut) = signals.censuses();
    let containers = signals.counts_containers();
    let least = LEAST_LEVELS as u64;
    if containers && censuses < least {
        let plural = if censuses == 1 { "census" } else { "censuses" };
        return Some(format!(
            "Only {censuses} {plural} so far; {LEAST_LEVELS} are needed."
        ));
    }
    if containers && 2 * cut > censuses {
        return Some(format!(
            "{cut} of {censuses} censuses were cut short; at most half may be."
        ));
    }
    let collections = signals.family(&SignalKey::Heap).ticks().len();
    if inputs.heap_read && !containers && collections == 0 {
        return Some(
            "The runtime's heap was not read yet: neither a census nor a garbage collection was seen.".to_owned(),
        );
    }
    (1..LEAST_LEVELS).contains(&collections).then(|| {
        format!(
            "Only {collections} garbage collections so far; {LEAST_LEVELS} are needed. More traffic brings them sooner."
        )
    })
}

/// How much could be leaking although the verdict is `no_leak`.
fn bound_sentence(bound: &Bound, horizon: f64) -> String {
    let rare = bound.one_in_requests.map_or_else(String::new, |one| {
        format!(
            ", by requests like those seen, in at least 1 of {}",
            number(one)
        )
    });
    let lasts = bound.lasts_seconds.map_or_else(String::new, |lasts| {
        format!(" At that rate memory lasts {}.", duration(lasts))
    });
    let more = bound.lasts_seconds.map_or_else(String::new, |lasts| {
        if lasts > 100.0 * horizon {
            return String::new();
        }
        " Longer observation rules out slower leaks.".to_owned()
    });
    format!(
        "At most {} per second could be leaking (95 %){rare}.{lasts}{more}",
        bytes(bound.bytes_per_second)
    )
}

/// Why the verdict is not `no_leak` although nothing grows.
fn open_sentence(bound: &Bound, window: &Window, horizon: f64) -> String {
    let lasts = bound.lasts_seconds.unwrap_or(f64::INFINITY);
    let more = bound.observe_seconds.unwrap_or(0.0).max(1.0);
    format!(
        "{} requests in {:.0} s, and nothing was found. But up to {} per second could be leaking unseen (95 %), and at that \
         rate memory would last {}, which is less than the horizon of {}. Observe {} more to rule that out, or set a \
         shorter --horizon.",
        number(window.requests as f64),
        window.seconds,
        bytes(bound.bytes_per_second),
        duration(lasts),
        duration(horizon),
        duration(more),
    )
}

fn leak_sentence(finding: &Finding) -> String {
    let sure = if finding.state == FindingState::Confirmed {
        "grows without bounds"
    } else {
        "may grow without bounds"
    };
    let container = finding.container.as_ref();
    let is_allocated = finding.basis == Basis::Blocks && !container.is_some_and(is_object);
    let place = match (finding.site.line, container) {
        (Some(line), _) if is_allocated => {
            format!("allocated in {} (line {line})", finding.site.function)
        }
        (None, _) if is_allocated => {
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
        _ if finding.retained_bytes_per_request <= 0.0 => {
            format!("{} per second", bytes(finding.growth_bytes_per_second))
        }
        _ => format!(
            "{} kept per request",
            bytes(finding.retained_bytes_per_request)
        ),
    };
    let least = if finding.retained_is_lower_bound {
        "at least "
    } else {
        ""
    };
    format!("{} {sure}: {least}{per}, {place}.", finding.route)
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
