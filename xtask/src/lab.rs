//! `cargo xtask lab`: scores heaptide's verdicts on the services with known answers.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::Table;
use serde_json::json;

pub(crate) mod books;
pub(crate) mod catalog;
pub(crate) mod go;
pub(crate) mod http;
pub(crate) mod observe;
mod pairwise;
pub(crate) mod python;
pub(crate) mod score;
pub(crate) mod service;

use crate::at_once::at_once;
use catalog::{Catalog, Service, Variant, row_name};
use observe::Settings;
use score::Score;

/// Which services, and how they are observed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these `service/variant`, with `*` as a wildcard, comma-separated.
    #[arg(long, default_value = "*")]
    only: String,
    /// How long to observe each.
    #[arg(long = "for", default_value = "60s")]
    duration: String,
    /// heaptide's mode, instead of each service's default.
    #[arg(long)]
    mode: Option<String>,
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Also write the table to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Services observed at the same time, each by its own heaptide.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Each row at several rates, modes and durations: no leak may be called `no_leak`
    #[arg(long, conflicts_with_all = ["mode", "rate", "duration", "json", "books"])]
    pairwise: bool,
    /// Without heaptide: only compare the services' counts with the load generator's.
    #[arg(long)]
    books: bool,
}

/// Seconds for which a service is driven when only counts are compared.
const BOOKS_SECONDS: u64 = 4;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let catalog = Catalog::load()?;
    let rows = catalog.rows(&arguments.only);
    ensure!(
        !rows.is_empty(),
        "no service/variant matches {}",
        arguments.only
    );
    service::build_load()?;
    let mut built = Vec::new();
    for (service, _) in &rows {
        if service::missing(service).is_none() && !built.contains(&service.name) {
            service::build(service)?;
            built.push(service.name.clone());
        }
    }
    if arguments.books {
        return compare_books(&rows, arguments.rate);
    }
    crate::build::agent(true)?;
    if arguments.pairwise {
        return pairwise::run(&rows, arguments.jobs);
    }
    let settings = Settings {
        duration: observe::seconds(&arguments.duration)?,
        mode: arguments.mode.clone(),
        rate: arguments.rate,
        text: false,
        release: true,
        headroom: None,
        page: None,
    };
    let scores = score(&rows, &settings, arguments.jobs);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&json!({
            "mode": settings.mode, "seconds": settings.duration, "rate": settings.rate, "rows": scores,
        }))?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    conclude(&scores)
}

/// Observes and scores, `jobs` at a time; the scores are in the order of the rows.
pub(crate) fn score(rows: &[(&Service, &Variant)], settings: &Settings, jobs: usize) -> Vec<Score> {
    at_once(rows, jobs, |(service, variant)| {
        score_one(service, variant, settings)
    })
}

fn score_one(service: &Service, variant: &Variant, settings: &Settings) -> Score {
    let name = row_name(service, variant);
    let score = if let Some(reason) = service::missing(service) {
        eprintln!("SKIPPED lab {name}: {reason}");
        Score::skipped(service, variant, reason)
    } else {
        eprintln!("lab: {name}");
        match observe::observe(service, variant, settings) {
            Ok(observed) => Score::of(service, variant, &observed),
            Err(error) => Score::failed(service, variant, &error),
        }
    };
    eprintln!("lab: {name}: {}", score.summary());
    score
}

/// Prints the table; an error if anything in it is wrong.
fn conclude(scores: &[Score]) -> Result<()> {
    let mut table = Table::new();
    table.set_header(score::TITLES);
    for score in scores {
        table.add_row(score.row());
    }
    println!("{table}");
    let count = |is: fn(&Score) -> bool| scores.iter().filter(|score| is(score)).count();
    let (right, wrong) = (count(Score::is_right), count(Score::is_wrong));
    let mut latencies: Vec<f64> = scores.iter().filter_map(Score::latency).collect();
    latencies.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (latencies.get(latencies.len() / 2), latencies.last()) {
        println!("first suspicion: median {median:.0} s, worst {worst:.0} s");
    }
    println!(
        "{right} right, {wrong} wrong, {} skipped",
        scores.len() - right - wrong
    );
    if wrong > 0 {
        bail!("{wrong} wrong verdicts");
    }
    Ok(())
}

fn compare_books(rows: &[(&Service, &Variant)], rate: u32) -> Result<()> {
    let mut wrong = 0;
    for (service, variant) in rows {
        let name = row_name(service, variant);
        if let Some(reason) = service::missing(service) {
            println!("SKIPPED {name}: {reason}");
            continue;
        }
        match books::compare(service, variant, rate, BOOKS_SECONDS) {
            Ok(()) => println!("{name}: right"),
            Err(error) => {
                println!("{name}: WRONG: {error:#}");
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} services have wrong counts", rows.len());
    }
    Ok(())
}
