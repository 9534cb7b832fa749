//! The evidence of a finding of growth signals, in sentences.

use crate::attribution::Attribution;
use crate::attribution::keys::RouteId;
use crate::findings::Inputs;
use crate::findings::units::{bytes, number};
use crate::findings::{Judge, residency};
use crate::growth::signals::SignalKey;
use crate::report::FindingState;

use super::curve::{EventKind, Variable};
use super::explanation::{DECISIVE, Explained};
use super::figures::Figures;
use super::groups::Group;
use super::judged::JudgedSignal;

/// Maximum number of alternatives.
const MOST_NAMED: usize = 4;
/// Maximum number of further signals.
const MOST_BESIDE: usize = 4;

/// The evidence of a finding whose main signal is `one`.
pub fn sentences(
    judge: &Judge,
    inputs: Inputs,
    group: &Group,
    one: &JudgedSignal,
    figures: &Figures,
) -> Vec<String> {
    let mut out = Vec::new();
    let Some(main) = group.keys.first() else {
        return out;
    };
    out.push(grew(main, one, figures, inputs.attribution));
    if matches!(main, SignalKey::Faults | SignalKey::Process) {
        out.push("no container, heap profile or block shows what keeps the memory".to_owned());
    }
    if inputs.requests_unread {
        // Requests came but could not be read, so a fit with time is not evidence.
    } else if let Some(explained) = &one.explained {
        out.push(why(explained, main, inputs.attribution));
    } else {
        out.push("there are too few readings to tell which requests make it grow".to_owned());
    }
    for key in group.keys.iter().skip(1).take(MOST_BESIDE) {
        if let Some(beside) = judge.signals.judged().get(key) {
            out.push(format!(
                "grows with it: {}",
                grew(key, beside, figures, inputs.attribution)
            ));
        }
    }
    if figures.of_process && figures.grown > 0.0 {
        out.push(format!(
            "the size of its entries is not known; all growth of the process in the same time, {}, is attributed to them",
            bytes(figures.grown)
        ));
    }
    if let Some(seen) = figures.seen {
        out.push(format!(
            "its entries were seen to own {}, and the process grew by {} in the same time: the rest is attributed to \
             what they refer to",
            bytes(seen),
            bytes(figures.grown)
        ));
    }
    if figures.is_lower_bound {
        out.push(
            "bytes are a lower bound: what the entries refer to is not counted, and the process has grown too little to \
             estimate it"
                .to_owned(),
        );
    }
    let state = group
        .keys
        .iter()
        .filter_map(|key| judge.signals.judged().get(key))
        .map(|one| one.state)
        .max();
    if state == Some(FindingState::Suspect) {
        out.push(format!(
            "confirmed when it retains {} more than at the onset; {} so far",
            bytes(judge.budget_since(one.onset)),
            bytes(figures.floor)
        ));
    }
    if let Some(summary) = judge.residents.summary(inputs.now) {
        out.extend(residency::evidence(&summary, group.cause));
    }
    let lost = judge.lost();
    if lost.requests > 0.0 {
        out.push(format!(
            "{:.2} % of requests were lost",
            100.0 * lost.requests
        ));
    }
    out
}

/// The growth of a signal.
fn grew(
    key: &SignalKey,
    one: &JudgedSignal,
    figures: &Figures,
    attribution: &Attribution,
) -> String {
    let seconds = one
        .window
        .seconds
        .max(figures.seconds.min(one.window.seconds));
    let (first, last) = (one.first.value, one.last.value);
    let removed = if one.window.fell < 0.5 {
        format!(
            "; none were removed: unbounded, or bounded above {}",
            number(last)
        )
    } else {
        format!(
            "; {} of {} were removed",
            number(one.window.fell),
            number(one.window.rose)
        )
    };
    match key {
        SignalKey::Container(path, kind) => format!(
            "{} ({kind}) grew from {} to {} entries in {seconds:.0} s{removed}",
            one.about.known_as.as_ref().unwrap_or(path),
            number(first),
            number(last)
        ),
        SignalKey::Site(main) => {
            let (function, _) = attribution.sites.describe(*main);
            format!(
                "the runtime's heap profile has {} more from {function} than {seconds:.0} s ago",
                bytes(one.window.net)
            )
        }
        SignalKey::Heap => format!(
            "the reachable heap grew from {} to {} in {seconds:.0} s",
            bytes(first),
            bytes(last)
        ),
        SignalKey::Faults => format!(
            "{} of pages were touched for the first time in {seconds:.0} s",
            bytes(one.window.net)
        ),
        SignalKey::Process => format!(
            "resident anonymous memory grew from {} to {} in {seconds:.0} s",
            bytes(first),
            bytes(last)
        ),
    }
}

/// The explanation of its growth.
fn why(explained: &Explained, key: &SignalKey, attribution: &Attribution) -> String {
    let each = |slope: f64| {
        if key.is_bytes() {
            bytes(slope)
        } else {
            format!("{slope:.2} entries")
        }
    };
    if let Some((new, repeat)) = explained.two {
        return format!(
            "it grows with {}: {} per new token and {} per repeated one",
            name(explained.variable, attribution),
            each(new),
            each(repeat)
        );
    }
    let decided = explained.possible.len() == 1;
    let best = format!(
        "it grows with {} ({} each)",
        name(explained.variable, attribution),
        each(explained.slope)
    );
    if decided {
        return format!(
            "{best}; every other explanation is at least {:.0} times less likely",
            DECISIVE.exp()
        );
    }
    let others: Vec<String> = explained
        .possible
        .iter()
        .filter(|variable| **variable != explained.variable)
        .take(MOST_NAMED)
        .map(|variable| name(*variable, attribution))
        .collect();
    format!("{best}; not excluded: {}", others.join(", "))
}

fn name(variable: Variable, attribution: &Attribution) -> String {
    let what = match variable.what {
        EventKind::New => "requests with a new token",
        EventKind::First => "requests with a first-seen token",
        EventKind::Repeat => "requests with a repeated token",
        EventKind::Tokens => "requests with any token",
        EventKind::Anonymous => "requests without a token",
        EventKind::All => "all requests",
        EventKind::Body => "bytes of request bodies",
        EventKind::Seconds => return "time, not requests".to_owned(),
    };
    match variable.route {
        Some(RouteId::OTHER) | None => format!("{what} on all routes"),
        Some(route) => format!("{what} on {}", attribution.routes.get(route).name),
    }
}
