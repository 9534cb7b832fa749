//! `cargo xtask demo`: from a fresh clone to verdicts on a leaking service and on its fixed form, compared with the truth.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::catalog::{Catalog, Expect, Service, Variant};
use crate::lab::observe::{self, Settings};
use crate::lab::score::{self, Score};
use crate::lab::service;
use crate::process::root;

/// The variants that are shown if none is named: a leak, and the same service without it.
const SHOWN: [&str; 2] = ["token-cache", "stateless"];
/// Free memory of a service that leaks. Its growth budget, 5 % of it, is reached within seconds.
const HEADROOM: u64 = 12 << 20;

/// Arguments of the demo.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Variant: token-cache, introspection-log, stateless, lru-1024, or another of lab/services.toml. By default
    /// token-cache, and then stateless.
    #[arg(long)]
    variant: Option<String>,
    /// How long to observe.
    #[arg(long = "for", default_value = "75s")]
    duration: String,
    /// The service, a name in lab/services.toml.
    #[arg(long, default_value = "axum")]
    service: String,
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// heaptide's mode.
    #[arg(long, default_value = "auto")]
    mode: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    crate::setup::everything(false)?;
    let catalog = Catalog::load()?;
    let named = arguments.variant.as_ref();
    let variants = named.map_or(SHOWN.to_vec(), |named| vec![named.as_str()]);
    let rows = variants
        .iter()
        .map(|variant| catalog.row(&arguments.service, variant))
        .collect::<Result<Vec<_>>>()?;
    crate::build::agent(true)?;
    service::build_load()?;
    for (service, variant) in rows {
        service::build(service)?;
        show(arguments, service, variant)?;
    }
    Ok(())
}

fn show(arguments: &Arguments, service: &Service, variant: &Variant) -> Result<()> {
    let folder = root().join("target/demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let page = folder.join(format!("{}.html", variant.name));
    let is_leak = variant.expect == Expect::Leak;
    let settings = Settings {
        duration: observe::seconds(&arguments.duration)?,
        mode: Some(arguments.mode.clone()),
        rate: arguments.rate,
        text: true,
        release: true,
        headroom: is_leak.then_some(HEADROOM),
        page: Some(page.clone()),
    };
    println!(
        "demo: {} {}, {} requests/s; after {} s of traffic heaptide attaches for {} s",
        service.name, variant.name, settings.rate, variant.warm_up, settings.duration
    );
    let observed = observe::observe(service, variant, &settings)?;
    let score = Score::of(service, variant, &observed);
    println!("\n{}\n", said(&observed.report));
    for (name, value) in score::TITLES
        .iter()
        .zip(score.row())
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
    {
        println!("{name:>18}  {value}");
    }
    ensure!(
        score.is_right(),
        "the verdict is not the known answer: {}",
        score.summary()
    );
    if is_leak && observed.report["verdict"] != "leak" {
        bail!(
            "the leak was not confirmed: {}; observe it for longer (--for 120s)",
            observed.report["reason"]
        );
    }
    println!(
        "demo: right: {} is {}; the report as a page: {}\n",
        variant.name,
        if is_leak { "a leak" } else { "no leak" },
        page.display()
    );
    Ok(())
}

/// The verdict in words, and when memory runs out.
fn said(report: &Value) -> String {
    let word = match report["verdict"].as_str() {
        Some("leak") => "LEAK, confirmed",
        Some("suspect") => "SUSPECT",
        Some("no_leak") => "NO LEAK",
        _ => "INSUFFICIENT EVIDENCE",
    };
    let reason = report["reason"].as_str().unwrap_or_default();
    let left = report
        .pointer("/findings/0/time_to_oom_seconds/median")
        .and_then(Value::as_f64);
    let left = left.map_or_else(String::new, |seconds| {
        format!(" Out of memory in about {:.0} min.", seconds / 60.0)
    });
    format!("{word}: {reason}{left}")
}
