//! `heaptide-eval`, run by `cargo xtask eval`: the judge and other methods on a labelled corpus.

mod baselines;
mod bench;
mod benign;
mod calibration;
mod classes;
mod jobs;
mod keepers;
mod plan;
mod random;
mod run;
mod score;
mod sites;
mod tradeoff;
mod traffic;
mod world;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::classes::Class;
use crate::run::Outcome;
use crate::score::Scores;
use crate::traffic::Family;

/// The horizon of the verdict `no_leak` here: simulated services have little memory.
const LAB_HORIZON: f64 = 3_600.0;

/// Scores the judge and the baselines on a corpus of simulated services with known answers.
#[derive(Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
struct Arguments {
    /// Traces per class.
    #[arg(long, default_value_t = 200)]
    traces: u64,
    /// Only classes whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Without classes whose name contains this.
    #[arg(long)]
    but: Option<String>,
    /// Writes the result of each trace.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Another corpus of the same families.
    #[arg(long, default_value_t = 6)]
    seed: u64,
    /// The families that the judge was not tuned on. The default.
    #[arg(long, conflicts_with = "tuning")]
    held_out: bool,
    /// The families that it was tuned on.
    #[arg(long)]
    tuning: bool,
    /// A line for each wrong trace.
    #[arg(long)]
    faults: bool,
    /// Only the trace of this number.
    #[arg(long)]
    trace: Option<u64>,
    /// Fails if the figures are below the floors of the tests.
    #[arg(long)]
    check: bool,
    /// Checks the bound of `no_leak` instead, on so many services per family and horizon.
    #[arg(long)]
    bound: bool,
    /// Compares growth budgets and times to confirm instead, on so many big caches and leaks.
    #[arg(long)]
    trade_off: bool,
    /// Measures state and CPU of the judge instead.
    #[arg(long)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.bench {
        return bench::run();
    }
    if arguments.bound {
        return calibration::run(&arguments);
    }
    let family = if arguments.tuning {
        Family::Tuning
    } else {
        Family::HeldOut
    };
    if arguments.trade_off {
        tradeoff::run(&arguments, family);
        return Ok(());
    }
    let began = Instant::now();
    let scores = Scores::new(corpus(&arguments, family)?);
    scores.print();
    scores.print_baselines(arguments.tuning);
    if arguments.faults {
        scores.print_faults();
    }
    println!(
        "{:?} families, seed {}, {:.0} s",
        family,
        arguments.seed,
        began.elapsed().as_secs_f64()
    );
    if arguments.check {
        scores.check()?;
    }
    Ok(())
}

/// All traces, on all cores, ordered by class and number.
fn corpus(arguments: &Arguments, family: Family) -> Result<Vec<Outcome>> {
    let only = arguments.only.as_deref().unwrap_or_default();
    let mut list: Vec<(Class, u64)> = Vec::new();
    for number in 0..arguments.traces {
        let classes = Class::ALL.iter().filter(|class| {
            let name = class.name();
            name.contains(only) && arguments.but.as_ref().is_none_or(|but| !name.contains(but))
        });
        list.extend(classes.map(|class| (*class, number)));
    }
    if let Some(only) = arguments.trace {
        list.retain(|(_, number)| *number == only);
    }
    let mut outcomes = jobs::run(&list, |(class, number)| {
        run::trace(*class, family, *number, arguments.seed)
    });
    outcomes.sort_by(|a, b| (&a.class, a.number).cmp(&(&b.class, b.number)));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&outcomes)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few traces of each class except the longest, of the tuning families: catches regressions.
    #[test]
    fn a_small_corpus_reaches_the_floors() {
        let arguments =
            Arguments::parse_from(["eval", "--tuning", "--traces", "1", "--but", "soak"]);
        let scores = Scores::new(corpus(&arguments, Family::Tuning).expect("outcomes"));
        scores.print();
        scores.print_faults();
        scores.check().expect("figures above the floors");
    }
}
