//! The evidence of a finding, in sentences.

use crate::growth::SeriesKey;
use crate::growth::series::Series;
use crate::report::{Cause, FindingState};

use super::cause::Contrast;
use super::inputs::Inputs;
use super::judge::Judge;
use super::judged::Judged;
use super::options::{FRESH, KEPT, LEAST_CONTRAST, LINEAR};
use super::residency;
use super::units::{bytes, number};
use super::window::Window;

/// The evidence of a finding whose main series is `key`. `grows`: it is a leak or a suspicion.
pub fn sentences(
    judge: &Judge,
    inputs: Inputs,
    key: &SeriesKey,
    one: &Judged,
    grows: bool,
) -> Vec<String> {
    let mut out = Vec::new();
    let window = &one.window;
    let seconds = inputs
        .growth
        .epochs
        .now()
        .since(inputs.growth.epochs.end(window.from));
    let entries = number(window.alive);
    let gone = window.holders - window.alive;
    let (what, freed) = if key.route.has_requests() {
        ("requests keep memory", "no longer do")
    } else {
        ("blocks are kept", "were freed")
    };
    if grows && gone < 0.5 {
        out.push(format!(
            "{entries} {what}, none freed in {seconds:.0} s: unbounded, or bounded above {entries}"
        ));
    } else {
        out.push(format!(
            "{entries} of {} {what} for more than {:.0} s after their end; {} {freed}",
            number(window.holders),
            judge.options.maturity_seconds,
            number(gone.max(0.0)),
        ));
    }
    if let Some((kept, age)) = inputs.growth.get(key).and_then(Series::survival) {
        out.push(format!(
            "{:.0} % of matured memory survives for at least {age:.0} s (Kaplan-Meier estimate)",
            100.0 * kept
        ));
    }
    if grows {
        out.push(gates(window));
    }
    if key.route.has_requests() {
        out.extend(classes(one));
    }
    if let Some(error) = inputs.growth.get(key).and_then(sampling_error) {
        out.push(format!(
            "bytes are estimated from samples, with a standard error of {:.0} %",
            100.0 * error
        ));
    }
    let container = inputs.growth.get(key).map_or(0.0, Series::container_bytes);
    if grows && container >= 1.0 {
        out.push(format!(
            "{} more are the container itself (a table that is enlarged in steps); they are not in the figures per request",
            bytes(container)
        ));
    }
    if grows && judge.state(one) == FindingState::Suspect {
        let budget = judge.budget_bytes(inputs.growth, one.onset);
        out.push(format!(
            "confirmed when {} of growth has outlived its requests; {} so far",
            bytes(budget),
            bytes(window.fresh_floor)
        ));
    }
    if grows && let Some(after) = judge.after.filter(|after| after.least > 0.0) {
        out.push(after.said());
    }
    if grows && window.evicted > 0.01 * window.matured {
        out.push(format!(
            "{} matured, and {} of earlier growth was freed in the same time",
            bytes(window.matured),
            bytes(window.evicted)
        ));
    }
    if window.returned > 0.01 * window.matured {
        out.push(format!(
            "{} of the same block sizes, from before the observation, was freed in the same time",
            bytes(window.returned)
        ));
    }
    if window.balanced > 0.01 * window.matured {
        out.push(format!(
            "{} of the growth is balanced: as many blocks of other sizes, from before the observation, were freed",
            bytes(window.balanced)
        ));
    }
    if grows && let Some(summary) = judge.residents.summary(inputs.growth.epochs.now()) {
        out.extend(residency::evidence(&summary, one.cause));
    }
    let lost = judge.lost();
    if lost.worst() > 0.0 {
        out.push(format!(
            "{:.2} % of blocks and {:.2} % of requests were lost",
            100.0 * lost.blocks,
            100.0 * lost.requests
        ));
    }
    out
}

/// Relative standard error of a series' bytes, if sampling makes it larger than 5 %.
fn sampling_error(series: &Series) -> Option<f64> {
    let error = series.variance().sqrt() / series.live_bytes().max(1.0);
    (error > 0.05).then_some(error)
}

/// What requests of each class keep.
fn classes(one: &Judged) -> Vec<String> {
    let mut out = Vec::new();
    let Contrast {
        new,
        repeat,
        none,
        shared,
    } = one.contrast;
    let parts = [
        (new, "new tokens"),
        (repeat, "repeated tokens"),
        (none, "no token"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(kept, _)| kept.requests > 0)
        .map(|(kept, name)| {
            format!(
                "{} requests with {name} keep {} B each",
                number(kept.requests as f64),
                number(kept.mean)
            )
        })
        .collect();
    out.extend((!parts.is_empty()).then(|| parts.join("; ")));
    if shared {
        out.push(
            "tokens known from other routes keep nothing, so routes share what keeps the memory"
                .to_owned(),
        );
    }
    if one.cause == Cause::Indeterminate && repeat.requests < LEAST_CONTRAST && new.requests > 0 {
        out.push(
            "nearly all tokens are new so far, as after every attach; whether repeated tokens keep memory is \
             not known yet"
                .to_owned(),
        );
    }
    out
}

/// The values of the gates beside their thresholds.
fn gates(window: &Window) -> String {
    let fresh = window.freshness.map_or_else(String::new, |fresh| {
        format!(
            "; recent growth per event is {:.0} % of the mean",
            100.0 * fresh
        )
    });
    format!(
        "{:.0} % of what matured in {:.0} s was kept (threshold {:.0} %); growth per event in the later half is {:.0} % \
         of that in the earlier half{fresh} (thresholds {:.0} % and {:.0} %); the recent floor is {}",
        100.0 * window.net / window.matured.max(1.0),
        window.seconds,
        100.0 * KEPT,
        100.0 * window.linearity,
        100.0 * LINEAR,
        100.0 * FRESH,
        bytes(window.late_floor),
    )
}
