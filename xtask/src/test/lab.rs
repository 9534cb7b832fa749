//! The lab's part of `cargo xtask test`: compares services' counts with the requests sent, and heaptide's verdicts on
//! the variants listed in services.toml: `tested` every day, `slow` with `--all`.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::programs::{Outcome, Wanted};
use crate::at_once::at_once;
use crate::lab::catalog::{Catalog, Service, Variant, row_name};
use crate::lab::observe::{self, Settings};
use crate::lab::score::Score;
use crate::lab::{books, service};

const RATE: u32 = 200;
const BOOKS_SECONDS: u64 = 3;
/// Concurrent comparisons of counts: a service and its load use a part of a core.
const JOBS: usize = 3;
/// Enough for the first suspicion at this request rate.
const VERDICT_SECONDS: u64 = 45;
/// Longer observation if the first one was too short for a verdict or a cause. A slow machine takes few censuses in that time.
const LONGER_SECONDS: u64 = 120;

/// A variant of a service that is tested.
pub(super) struct Row<'a> {
    pub(super) service: &'a Service,
    variant: &'a Variant,
    /// Name of the test, for the filter.
    pub(super) name: String,
}

impl<'a> Row<'a> {
    fn new(kind: &str, service: &'a Service, variant: &'a Variant) -> Self {
        Self {
            service,
            variant,
            name: format!("{kind} {}", row_name(service, variant)),
        }
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        wanted.filter.is_none_or(|part| self.name.contains(part))
    }

    /// Runs the test, prints like libtest, and counts it.
    fn run(&self, test: impl Fn(&Service, &Variant) -> Result<()>) -> Outcome {
        let mut outcome = Outcome::default();
        let name = &self.name;
        if let Some(reason) = service::missing(self.service) {
            eprintln!("SKIPPED {name}: {reason}");
            outcome.skipped.push(format!("{name}: {reason}"));
            return outcome;
        }
        let result = test(self.service, self.variant);
        match &result {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => println!("test {name} ... FAILED: {error:#}"),
        }
        let kind = name.split(' ').next().unwrap_or(name);
        outcome.count(kind, name, result.err().map(|error| format!("{error:#}")));
        outcome
    }
}

/// The first variant of each service with tested verdicts; with `all` of every service.
pub(super) fn rows_of_books<'a>(catalog: &'a Catalog, wanted: &Wanted) -> Result<Vec<Row<'a>>> {
    let services = catalog.services.iter();
    let services = services.filter(|service| wanted.all || !service.tested.is_empty());
    let mut rows = Vec::new();
    for service in services {
        let variant = service.variants.first();
        let variant = variant.context("a service without variants")?;
        rows.push(Row::new("lab_books", service, variant));
    }
    rows.retain(|row| row.is_wanted(wanted));
    Ok(rows)
}

/// The variants whose verdicts are tested.
pub(super) fn rows_of_verdicts<'a>(catalog: &'a Catalog, wanted: &Wanted) -> Vec<Row<'a>> {
    let tested = |(service, variant): &(&Service, &Variant)| {
        service.tested.contains(&variant.name)
            || (wanted.all && service.slow.contains(&variant.name))
    };
    let rows = catalog.rows("*").into_iter().filter(tested);
    let rows = rows.map(|(service, variant)| Row::new("lab_verdict", service, variant));
    rows.filter(|row| row.is_wanted(wanted)).collect()
}

/// Compares services' counts with the requests sent.
pub(super) fn books(rows: &[Row], outcome: &mut Outcome) {
    let compare = |service: &Service, variant: &Variant| {
        books::compare(service, variant, RATE, BOOKS_SECONDS)
    };
    for one in at_once(rows, JOBS, |row| row.run(compare)) {
        outcome.extend(one);
    }
}

/// Whether the `heaptide` that the other tests start gives the right verdict on a variant.
pub(super) fn verdict(row: &Row) -> Outcome {
    row.run(|service, variant| {
        let mut observed = observe::observe(service, variant, &settings(VERDICT_SECONDS))?;
        if is_open(&observed.report) {
            println!("{}: {}", row.name, observed.report["reason"]);
            let seconds = longer(&observed.report);
            observed = observe::observe(service, variant, &settings(seconds))?;
        }
        let score = Score::of(service, variant, &observed);
        anyhow::ensure!(
            !score.is_wrong(),
            "{}: {}",
            score.summary(),
            observed.report["reason"]
        );
        Ok(())
    })
}

/// How long to observe after a report without a verdict: as long as the report asks for and a quarter more, if it does.
fn longer(report: &Value) -> u64 {
    let more = report
        .pointer("/bound/observe_seconds")
        .and_then(Value::as_f64);
    more.map_or(LONGER_SECONDS, |more| {
        let asked = (VERDICT_SECONDS as f64 + more) * 1.25;
        (asked.ceil() as u64).clamp(VERDICT_SECONDS, LONGER_SECONDS)
    })
}

/// Whether a report says that its evidence is too thin for a verdict or for a cause.
fn is_open(report: &Value) -> bool {
    let findings = report["findings"].as_array().into_iter().flatten();
    let causes: Vec<&Value> = findings.map(|finding| &finding["cause"]).collect();
    let no_cause = !causes.is_empty() && causes.iter().all(|cause| **cause == "indeterminate");
    report["verdict"] == "insufficient_evidence" || no_cause
}

fn settings(seconds: u64) -> Settings {
    Settings {
        duration: seconds,
        mode: None,
        rate: RATE,
        text: false,
        release: false,
        headroom: None,
        page: None,
    }
}
