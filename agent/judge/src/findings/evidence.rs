//! What a finding rests on, in sentences.

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

/// The sentences of a finding led by the series `key`. `grows`: it is not excused.
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
    let what = if key.route.has_requests() {
        "requests keep memory"
    } else {
        "blocks are kept"
    };
    if grows && gone < 0.5 {
        out.push(format!(
            "{entries} {what}, none let go in {seconds:.0} s: unbounded, or larger than {entries}"
        ));
    } else {
        out.push(format!(
            "{entries} of {} {what} for more than {:.0} s after their end; {} let go",
            number(window.holders),
            judge.options.maturity_seconds,
            number(gone.max(0.0)),
        ));
    }
    if let Some((kept, age)) = inputs.growth.get(key).and_then(Series::survival) {
        out.push(format!(
            "{:.0} % of what matured is kept for {age:.0} s and longer (Kaplan-Meier)",
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
            "bytes are estimated from samples: a standard error of {:.0} %",
            100.0 * error
        ));
    }
    let container = inputs.growth.get(key).map_or(0.0, Series::container_bytes);
    if grows && container >= 1.0 {
        out.push(format!(
            "{} more are the container itself (a table that grows by steps), in no figure per request",
            bytes(container)
        ));
    }
    if grows && judge.state(one) == FindingState::Suspect {
        let budget = judge.budget_bytes(inputs.growth, one.onset);
        out.push(format!(
            "confirmed when {} of growth has outlived its requests, {} so far",
            bytes(budget),
            bytes(window.fresh_floor)
        ));
    }
    if grows && window.evicted > 0.01 * window.matured {
        out.push(format!(
            "{} matured and {} of earlier growth was let go in the same time",
            bytes(window.matured),
            bytes(window.evicted)
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

/// What requests of each class keep.
/// Standard error of a series' bytes as a part of them, where sampling leaves one worth a word.
fn sampling_error(series: &Series) -> Option<f64> {
    let error = series.variance().sqrt() / series.live_bytes().max(1.0);
    (error > 0.05).then_some(error)
}

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
        out.push("tokens known from other routes keep nothing: what keeps the memory is shared by routes".to_owned());
    }
    if one.cause == Cause::Indeterminate && repeat.requests < LEAST_CONTRAST && new.requests > 0 {
        out.push(
            "nearly all tokens were seen for the first time (after an attach every token is): whether \
             repeats keep memory is not known yet"
                .to_owned(),
        );
    }
    out
}

/// How far each gate is passed.
fn gates(window: &Window) -> String {
    let fresh = window.freshness.map_or_else(String::new, |fresh| {
        format!(", the latest part {:.0} % of the mean", 100.0 * fresh)
    });
    format!(
        "kept {:.0} % of what matured in {:.0} s ({:.0} at least); its later half brought {:.0} % of what the \
         earlier brought per event{fresh} ({:.0} and {:.0} at least); never below {} lately",
        100.0 * window.net / window.matured.max(1.0),
        window.seconds,
        100.0 * KEPT,
        100.0 * window.linearity,
        100.0 * LINEAR,
        100.0 * FRESH,
        bytes(window.late_floor),
    )
}
