//! `cargo xtask demo`: from a fresh clone to a verdict on a service, and its comparison with the
//! truth.

use anyhow::{Result, bail};

use crate::lab::catalog::{Catalog, Expect};
use crate::lab::observe::{self, Settings};
use crate::lab::score::{self, Score};
use crate::lab::service;

/// Arguments of the demo.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Variant: token-cache, introspection-log, stateless, lru-1024, or another of
    /// lab/services.toml.
    #[arg(long, default_value = "token-cache")]
    variant: String,
    /// How long to observe.
    #[arg(long = "for", default_value = "60s")]
    duration: String,
    /// The service, a name in lab/services.toml.
    #[arg(long, default_value = "axum")]
    service: String,
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    crate::setup::everything(false)?;
    let catalog = Catalog::load()?;
    let (service, variant) = catalog.row(&arguments.service, &arguments.variant)?;
    crate::build::agent(true)?;
    service::build_load()?;
    service::build(service)?;
    let settings = Settings {
        duration: observe::seconds(&arguments.duration)?,
        mode: None,
        rate: arguments.rate,
        text: true,
        release: true,
    };
    println!(
        "demo: {} {}, {} requests/s; after {} s of traffic heaptide attaches for {} s",
        service.name, variant.name, settings.rate, variant.warm_up, settings.duration
    );
    let observed = observe::observe(service, variant, &settings)?;
    let score = Score::of(service, variant, &observed);
    println!();
    for (name, value) in score::TITLES
        .iter()
        .zip(score.row())
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
    {
        println!("{name:>18}  {value}");
    }
    if !score.is_right() {
        bail!("the verdict is not the known answer: {}", score.summary());
    }
    println!(
        "demo: right: {} is {}",
        variant.name,
        if variant.expect == Expect::Leak {
            "a leak"
        } else {
            "no leak"
        }
    );
    Ok(())
}
