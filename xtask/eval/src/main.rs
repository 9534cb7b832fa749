//! `heaptide-eval`, run by `cargo xtask eval`: the judge and other methods on a labelled corpus.

mod arguments;
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
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::arguments::Arguments;
use crate::classes::Class;
use crate::run::Outcome;
use crate::score::Scores;
use crate::traffic::Family;

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
