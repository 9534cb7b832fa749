//! `cargo xtask lab --pairwise`: rows under other rates, modes and durations. Each pair of row, rate, mode and duration
//! occurs in some run, not each combination of all four.
//!
//! What must hold in each run is less than in the lab's own table, because few requests are little evidence: a leak is
//! never called `no_leak`, unless the stated bound is at least its rate, and what is bounded is never confirmed.

use anyhow::{Result, bail};
use comfy_table::Table;
use serde_json::Value;

use super::catalog::{Expect, Service, Variant, row_name};
use super::observe::{self, Observed, Settings};
use super::service;
use crate::at_once::at_once;

/// Requests per second.
const RATES: [u32; 4] = [5, 20, 100, 200];
const MODES: [&str; 4] = ["auto", "sample", "trace", "watch"];
/// Seconds.
const DURATIONS: [u64; 2] = [30, 60];

/// One run.
struct Run<'a> {
    service: &'a Service,
    variant: &'a Variant,
    settings: Settings,
}

/// Whether the verdict is allowed; `None`: the row cannot run here.
type Judged = (String, Option<bool>);

/// Runs the selection for `rows`, `jobs` at a time. An error if a verdict is not allowed.
pub(crate) fn run(rows: &[(&Service, &Variant)], jobs: usize) -> Result<()> {
    let runs = selection(rows);
    let judged = at_once(&runs, jobs, |run| {
        let judged = judge(run);
        eprintln!("lab: {}: {}", run.name(), judged.0);
        judged
    });
    let mut table = Table::new();
    table.set_header(["row", "requests/s", "mode", "seconds", "verdict", ""]);
    for (run, (said, right)) in runs.iter().zip(&judged) {
        table.add_row([
            row_name(run.service, run.variant),
            run.settings.rate.to_string(),
            run.settings.mode.clone().unwrap_or_default(),
            run.settings.duration.to_string(),
            said.clone(),
            match right {
                Some(true) => "allowed",
                Some(false) => "WRONG",
                None => "SKIPPED",
            }
            .to_owned(),
        ]);
    }
    println!("{table}");
    let wrong = judged.iter().filter(|one| one.1 == Some(false)).count();
    let skipped = judged.iter().filter(|one| one.1.is_none()).count();
    let allowed = judged.len() - wrong - skipped;
    println!("{allowed} allowed, {wrong} wrong, {skipped} skipped");
    if wrong > 0 {
        bail!("{wrong} verdicts are not allowed");
    }
    Ok(())
}

/// Four runs of each row. Run `k` of row `i` has rate `k` and mode `k + i`, so each rate meets each mode within four
/// rows, and each row has each rate and each mode once.
fn selection<'a>(rows: &[(&'a Service, &'a Variant)]) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for (i, (service, variant)) in rows.iter().enumerate() {
        for (k, rate) in RATES.iter().enumerate() {
            runs.push(Run {
                service,
                variant,
                settings: Settings {
                    duration: DURATIONS[(k + i / MODES.len()) % DURATIONS.len()],
                    mode: Some(MODES[(k + i) % MODES.len()].to_owned()),
                    rate: *rate,
                    text: false,
                    release: true,
                    headroom: None,
                    page: None,
                },
            });
        }
    }
    runs
}

impl Run<'_> {
    fn name(&self) -> String {
        let settings = &self.settings;
        format!(
            "{} {}/s {} {} s",
            row_name(self.service, self.variant),
            settings.rate,
            settings.mode.as_deref().unwrap_or_default(),
            settings.duration
        )
    }
}

fn judge(run: &Run<'_>) -> Judged {
    if let Some(reason) = service::missing(run.service) {
        return (reason, None);
    }
    match observe::observe(run.service, run.variant, &run.settings) {
        Ok(observed) => said(run, &observed),
        Err(error) => (format!("failed: {error:#}"), Some(false)),
    }
}

fn said(run: &Run<'_>, observed: &Observed) -> Judged {
    let verdict = observed.report["verdict"].as_str().unwrap_or_default();
    let right = match (run.variant.expect, verdict) {
        (Expect::Leak, "no_leak") => {
            let bound = observed.report.pointer("/bound/bytes_per_second");
            let bound = bound.and_then(Value::as_f64).unwrap_or(0.0);
            let Some(truth) = observed.grown("/entry_bytes") else {
                return (
                    "no_leak, and its true rate is not known".to_owned(),
                    Some(false),
                );
            };
            let rate = truth / run.settings.duration as f64;
            let said = format!("no_leak: at most {bound:.0} B/s, and {rate:.0} B/s leak");
            return (said, Some(bound >= rate));
        }
        (Expect::Leak, _) => true,
        (Expect::NoLeak | Expect::NotConfirmed, verdict) => verdict != "leak",
    };
    (verdict.to_owned(), Some(right))
}
