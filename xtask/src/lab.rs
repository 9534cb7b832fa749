//! `cargo xtask lab`: heaptide's verdicts over the services with known answers, scored.

use anyhow::{Result, bail, ensure};
use comfy_table::Table;

pub(crate) mod catalog;
pub(crate) mod http;
pub(crate) mod observe;
pub(crate) mod score;
pub(crate) mod service;

use catalog::Catalog;
use observe::Settings;
use score::Score;

/// Which services, and how they are observed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these `service/variant`, with `*` for any letters.
    #[arg(long, default_value = "*")]
    only: String,
    /// How long to watch each.
    #[arg(long = "for", default_value = "60s")]
    duration: String,
    /// heaptide's mode.
    #[arg(long, default_value = "trace")]
    mode: String,
    /// Requests per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let catalog = Catalog::load()?;
    let rows = catalog.rows(&arguments.only);
    ensure!(
        !rows.is_empty(),
        "no service/variant matches {}",
        arguments.only
    );
    crate::build::agent(true)?;
    service::build_load()?;
    let mut built = Vec::new();
    for (service, _) in &rows {
        if !built.contains(&service.name) {
            service::build(service)?;
            built.push(service.name.clone());
        }
    }
    let settings = Settings {
        duration: observe::seconds(&arguments.duration)?,
        mode: arguments.mode.clone(),
        rate: arguments.rate,
        text: false,
    };
    let mut table = Table::new();
    table.set_header([
        "variant",
        "expected",
        "said",
        "route",
        "site",
        "kept, said / true",
        "suspected after",
        "overhead",
        "",
    ]);
    let mut wrong = 0;
    for (service, variant) in &rows {
        let name = format!("{}/{}", service.name, variant.name);
        eprintln!("lab: {name}");
        let score = match observe::observe(service, variant, &settings) {
            Ok(observed) => Score::of(variant, &observed),
            Err(error) => Score::failed(variant, &error),
        };
        eprintln!("lab: {name}: {}", score.summary());
        wrong += usize::from(!score.is_right());
        table.add_row(std::iter::once(name).chain(score.row()));
    }
    println!("{table}");
    println!("{} of {} right", rows.len() - wrong, rows.len());
    if wrong > 0 {
        bail!("{wrong} wrong verdicts");
    }
    Ok(())
}
