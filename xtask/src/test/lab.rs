//! The lab as a part of `cargo xtask test`: every service's books are compared with what was sent, and
//! heaptide's verdicts on those variants that services.toml lists as `tested`.

use anyhow::{Context as _, Result};

use super::programs::Outcome;
use crate::lab::catalog::{Catalog, Service, Variant, row_name};
use crate::lab::observe::{self, Settings};
use crate::lab::score::Score;
use crate::lab::{at_once, books, service};
use crate::process;

const RATE: u32 = 200;
const BOOKS_SECONDS: u64 = 3;
/// Rows at a time: a service, its load and heaptide take half of a core together.
const JOBS: usize = 2;
/// Enough for a first right suspicion of what leaks at that rate.
const VERDICT_SECONDS: u64 = 30;

/// Each service's first variant.
pub(super) fn books(filter: Option<&str>, outcome: &mut Outcome) -> Result<()> {
    let catalog = Catalog::load()?;
    let rows = catalog.services.iter().map(|service| {
        let variant = service
            .variants
            .first()
            .context("a service without variants")?;
        Ok((service, variant))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    run("lab_books", &rows, filter, outcome, |service, variant| {
        books::compare(service, variant, RATE, BOOKS_SECONDS)
    });
    Ok(())
}

/// The variants listed as `tested`, by the heaptide that the other tests start too.
pub(super) fn verdicts(filter: Option<&str>, outcome: &mut Outcome) -> Result<()> {
    let catalog = Catalog::load()?;
    let tested = |(service, variant): &(&Service, &Variant)| service.tested.contains(&variant.name);
    let rows: Vec<_> = catalog.rows("*").into_iter().filter(tested).collect();
    let settings = Settings {
        duration: VERDICT_SECONDS,
        mode: None,
        rate: RATE,
        text: false,
        release: false,
    };
    if !process::can_be_root() {
        for (service, variant) in rows {
            let name = row_name(service, variant);
            outcome.skipped.push(format!(
                "lab_verdict {name}: needs root, and sudo is not there"
            ));
        }
        return Ok(());
    }
    run("lab_verdict", &rows, filter, outcome, |service, variant| {
        let observed = observe::observe(service, variant, &settings)?;
        let score = Score::of(service, variant, &observed);
        anyhow::ensure!(!score.is_wrong(), "{}", score.summary());
        Ok(())
    });
    Ok(())
}

/// Runs one test per row, prints as libtest does, and adds a result line.
fn run(
    kind: &str,
    rows: &[(&Service, &Variant)],
    filter: Option<&str>,
    outcome: &mut Outcome,
    test: impl Fn(&Service, &Variant) -> Result<()> + Sync,
) {
    let mut wanted = Vec::new();
    for (service, variant) in rows {
        let name = format!("{kind} {}", row_name(service, variant));
        if filter.is_some_and(|part| !name.contains(part)) {
            continue;
        }
        if let Some(reason) = service::missing(service) {
            eprintln!("SKIPPED {name}: {reason}");
            outcome.skipped.push(format!("{name}: {reason}"));
            continue;
        }
        wanted.push((name, *service, *variant));
    }
    let results = at_once(&wanted, JOBS, |(name, service, variant)| {
        let result = test(service, variant);
        match &result {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => println!("test {name} ... FAILED: {error:#}"),
        }
        result.is_ok()
    });
    let passed = results.iter().filter(|passed| **passed).count() as u32;
    let failed = results.len() as u32 - passed;
    if passed + failed > 0 {
        outcome.add(kind, passed, failed);
    }
}
