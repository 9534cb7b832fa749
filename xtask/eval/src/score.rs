//! From results to figures per class and in total, and the floors that they must reach.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::baselines::BASELINES;
use crate::classes::Kind;
use crate::run::{CauseScore, Outcome};

/// Assumed fraction of leaking processes, for precision.
const PREVALENCE: f64 = 0.1;
/// Floors of `--check`.
const LEAST_RECALL: f64 = 0.95;
const LEAST_RIGHT: f64 = 0.9;
/// Seconds of a month.
const MONTH: f64 = 30.0 * 86_400.0;

/// Figures of some traces.
#[derive(Default)]
pub(crate) struct Figures {
    traces: usize,
    leaks: usize,
    found: usize,
    /// Traces in which something that is not a leak was confirmed.
    false_confirmations: usize,
    false_suspicions: usize,
    suspected: Vec<f64>,
    /// Latency of the confirmation relative to the allowed one.
    confirmed: Vec<f64>,
    confirmed_seconds: Vec<f64>,
    right: usize,
    knowable: usize,
    abstained: usize,
    unknowable: usize,
    placed: usize,
    places: usize,
    covered: usize,
    forecasts: usize,
    errors: Vec<f64>,
    /// Traces whose last verdict was `no_leak`.
    no_leak: usize,
    /// Traces with a `no_leak` whose bound was too low.
    missed: usize,
    seconds: f64,
}

impl Figures {
    fn add(&mut self, one: &Outcome) {
        self.traces += 1;
        self.seconds += one.seconds;
        self.false_confirmations += usize::from(one.false_confirmation);
        self.false_suspicions += usize::from(one.false_suspicion);
        self.no_leak += usize::from(one.no_leak);
        self.missed += usize::from(one.missed);
        if !matches!(one.kind, Kind::Benign | Kind::Hard) {
            self.leaks += 1;
            self.found += usize::from(one.found);
            if one.rate >= 100.0 {
                self.suspected.push(one.suspected.unwrap_or(f64::INFINITY));
            }
            if one.kind != Kind::LossyLeak {
                let allowed = allowed_seconds(one.oom);
                self.confirmed
                    .push(one.confirmed.map_or(f64::INFINITY, |c| c / allowed));
                self.confirmed_seconds
                    .push(one.confirmed.unwrap_or(f64::INFINITY));
            }
        }
        match one.cause {
            Some(CauseScore::Right) => {
                self.knowable += 1;
                self.right += 1;
            }
            Some(CauseScore::Wrong | CauseScore::Unsaid) => self.knowable += 1,
            Some(CauseScore::Abstained) => {
                self.unknowable += 1;
                self.abstained += 1;
            }
            Some(CauseScore::Guessed) => self.unknowable += 1,
            None => {}
        }
        if let Some(right) = one.place {
            self.places += 1;
            self.placed += usize::from(right);
        }
        if let Some(forecast) = one.forecast {
            self.forecasts += 1;
            let within = forecast.early <= forecast.truth && forecast.truth <= forecast.late;
            self.covered += usize::from(within);
            self.errors
                .push((forecast.median / forecast.truth - 1.0).abs());
        }
    }

    pub(crate) fn recall(&self) -> f64 {
        part(self.found, self.leaks)
    }

    /// Fraction of the traces with a false confirmation.
    pub(crate) fn false_positive_rate(&self) -> f64 {
        part(self.false_confirmations, self.traces)
    }

    fn row(&self, name: &str) -> Vec<String> {
        let percent = |n: usize, of: usize| {
            if of == 0 {
                "-".to_owned()
            } else {
                format!("{:.1}", 100.0 * part(n, of))
            }
        };
        let some = |values: &[f64], digits: usize| {
            if values.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.digits$}", median(values))
            }
        };
        vec![
            name.to_owned(),
            self.traces.to_string(),
            percent(self.found, self.leaks),
            self.false_confirmations.to_string(),
            self.false_suspicions.to_string(),
            percent(self.right, self.knowable),
            percent(self.abstained, self.unknowable),
            percent(self.placed, self.places),
            some(&self.suspected, 0),
            some(&self.confirmed_seconds, 0),
            some(&self.confirmed, 2),
            percent(self.covered, self.forecasts),
            some(
                &self.errors.iter().map(|e| 100.0 * e).collect::<Vec<_>>(),
                1,
            ),
            percent(self.no_leak, self.traces),
            self.missed.to_string(),
            format!("{:.2}", self.seconds / MONTH),
        ]
    }
}

/// All classes of one run.
pub(crate) struct Scores {
    by_class: BTreeMap<String, (Kind, Figures)>,
    outcomes: Vec<Outcome>,
}

impl Scores {
    pub(crate) fn new(outcomes: Vec<Outcome>) -> Self {
        let mut by_class: BTreeMap<String, (Kind, Figures)> = BTreeMap::new();
        for one in &outcomes {
            let entry = by_class
                .entry(one.class.clone())
                .or_insert_with(|| (one.kind, Figures::default()));
            entry.1.add(one);
        }
        Self { by_class, outcomes }
    }

    /// Figures of all classes of some kinds.
    pub(crate) fn of(&self, kinds: &[Kind]) -> Figures {
        let mut figures = Figures::default();
        for one in self.outcomes.iter().filter(|one| kinds.contains(&one.kind)) {
            figures.add(one);
        }
        figures
    }

    /// Assuming that one process in ten leaks.
    pub(crate) fn precision(&self) -> f64 {
        let recall = self.of(&[Kind::Leak]).recall();
        precision(
            recall,
            self.of(&[Kind::Leak, Kind::Benign]).false_positive_rate(),
        )
    }

    /// False confirmations per process and month of simulated time.
    pub(crate) fn false_per_month(&self) -> f64 {
        let all = self.of(&[Kind::Leak, Kind::Benign]);
        all.false_confirmations as f64 / (all.seconds / MONTH).max(1e-9)
    }

    /// Fails if a figure is below its floor. With few traces per class one wrong trace is several
    /// percent, so the floors are below the figures of docs/eval.md.
    pub(crate) fn check(&self) -> Result<()> {
        let leaks = self.of(&[Kind::Leak]);
        let all = self.of(&[Kind::Leak, Kind::Benign, Kind::LossyLeak, Kind::FaultyLeak]);
        ensure!(
            leaks.recall() >= LEAST_RECALL,
            "recall {:.3} is below {LEAST_RECALL}",
            leaks.recall()
        );
        ensure!(
            all.false_confirmations == 0,
            "{} traces have a false confirmation",
            all.false_confirmations
        );
        let right = part(leaks.right, leaks.knowable);
        ensure!(
            right >= LEAST_RIGHT,
            "causes are right in {right:.3} of the traces, below {LEAST_RIGHT}"
        );
        let abstained = part(leaks.abstained, leaks.unknowable);
        ensure!(
            leaks.unknowable == 0 || abstained >= LEAST_RIGHT,
            "where the cause cannot be known, one is reported in {:.3}",
            1.0 - abstained
        );
        Ok(())
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header([
            "class",
            "traces",
            "recall %",
            "false conf.",
            "false susp.",
            "cause %",
            "abstains %",
            "place %",
            "suspect s",
            "confirmed s",
            "of allowed",
            "covered %",
            "error %",
            "no_leak %",
            "bound < true",
            "months",
        ]);
        for (name, (_, figures)) in &self.by_class {
            table.add_row(figures.row(name));
        }
        let sums: [(&str, &[Kind]); 4] = [
            ("ALL LEAKS", &[Kind::Leak]),
            ("ALL BENIGN", &[Kind::Benign]),
            ("HARD", &[Kind::Hard]),
            ("FAULTY LEAKS", &[Kind::FaultyLeak, Kind::LossyLeak]),
        ];
        for (name, kinds) in sums {
            let figures = self.of(kinds);
            if figures.traces > 0 {
                table.add_row(figures.row(name));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        println!(
            "precision at 10 % prevalence {:.4}; false confirmations per process and month {:.3}",
            self.precision(),
            self.false_per_month()
        );
    }

    /// Recall and precision of the baselines, beside the detector's.
    pub(crate) fn print_baselines(&self, tuning: bool) {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header([
            "method",
            "threshold",
            "recall %",
            "false alarms %",
            "precision",
        ]);
        let leaks: Vec<&Outcome> = self
            .outcomes
            .iter()
            .filter(|one| one.kind == Kind::Leak)
            .collect();
        let benign: Vec<&Outcome> = self
            .outcomes
            .iter()
            .filter(|one| one.kind == Kind::Benign)
            .collect();
        if leaks.is_empty() || benign.is_empty() {
            return;
        }
        let above = |of: &[&Outcome], index: usize, least: f64| {
            of.iter()
                .filter(|one| one.baselines[index] >= least)
                .count() as f64
                / of.len() as f64
        };
        let mut row = |name: &str, threshold: String, recall: f64, alarms: f64| {
            table.add_row([
                name.to_owned(),
                threshold,
                format!("{:.1}", 100.0 * recall),
                format!("{:.1}", 100.0 * alarms),
                format!("{:.3}", precision(recall, alarms)),
            ]);
        };
        let (found, benign_figures) = (self.of(&[Kind::Leak]).recall(), self.of(&[Kind::Benign]));
        row(
            "heaptide, confirmed",
            String::new(),
            found,
            benign_figures.false_positive_rate(),
        );
        for (index, (name, threshold)) in BASELINES.iter().enumerate() {
            let (recall, alarms) = (
                above(&leaks, index, *threshold),
                above(&benign, index, *threshold),
            );
            row(name, format!("{threshold}"), recall, alarms);
            if tuning {
                let best = leaks.iter().map(|one| one.baselines[index]).max_by(|a, b| {
                    let f1 = |t: f64| f1(above(&leaks, index, t), above(&benign, index, t));
                    f1(*a).total_cmp(&f1(*b))
                });
                let best = best.unwrap_or_default();
                row(
                    "  its best here",
                    format!("{best:.3}"),
                    above(&leaks, index, best),
                    above(&benign, index, best),
                );
            }
        }
        println!("{table}");
    }

    /// Prints a line per wrong trace.
    pub(crate) fn print_faults(&self) {
        for one in &self.outcomes {
            let mut faults = Vec::new();
            let leaks = !matches!(one.kind, Kind::Benign | Kind::Hard);
            if leaks && !one.found {
                faults.push("missed".to_owned());
            }
            if one.false_confirmation && one.kind != Kind::Hard {
                faults.push("false confirmation".to_owned());
            }
            if matches!(
                one.cause,
                Some(CauseScore::Wrong | CauseScore::Unsaid | CauseScore::Guessed)
            ) {
                faults.push(format!("cause {:?}, said {:?}", one.cause, one.said));
            }
            if one.place == Some(false) {
                faults.push("place".to_owned());
            }
            if let Some(finding) = &one.false_finding {
                faults.push(finding.clone());
            }
            if one.missed {
                faults.push("no_leak with a bound below the true rate".to_owned());
            }
            if !faults.is_empty() {
                println!(
                    "{:?} {} {}: {} (rate {:.1}, {:.0} s, suspected {:?}, confirmed {:?}, of {:.0})",
                    one.family,
                    one.class,
                    one.number,
                    faults.join(", "),
                    one.rate,
                    one.seconds,
                    one.suspected,
                    one.confirmed,
                    one.oom
                );
            }
        }
    }
}

/// Allowed seconds to a confirmation, if memory would run out after `oom` seconds.
pub(crate) fn allowed_seconds(oom: f64) -> f64 {
    (0.06 * oom).max(120.0)
}

fn f1(recall: f64, alarms: f64) -> f64 {
    let precision = precision(recall, alarms);
    if precision + recall > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    }
}

fn precision(recall: f64, alarms: f64) -> f64 {
    let (right, wrong) = (PREVALENCE * recall, (1.0 - PREVALENCE) * alarms);
    if right + wrong > 0.0 {
        right / (right + wrong)
    } else {
        0.0
    }
}

fn part(n: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
