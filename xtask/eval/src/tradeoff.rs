//! `cargo xtask eval --trade-off`: growth budget and time to confirm against false confirmations of caches that fill, and
//! the latency of leaks.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::FindingState;

use crate::arguments::Arguments;
use crate::classes::{Class, Kind};
use crate::jobs;
use crate::plan::Plan;
use crate::run::{leak_of, time_to_oom};
use crate::score::{allowed_seconds, median};
use crate::traffic::Family;
use crate::world::World;

/// Growth budgets.
const BUDGETS: [f64; 7] = [0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3];
/// Least seconds from the onset to a confirmation, besides those of the judge.
const FLOORS: [f64; 3] = [0.0, 100.0, 200.0];
/// Leaks whose latency is measured.
const LEAKS: [Class; 5] = [
    Class::TokenKeyed,
    Class::PerRequest,
    Class::RareRoute,
    Class::Background,
    Class::LowRate,
];
/// The leaks of the corpus use 12-22 % of the headroom. Here they go on for longer, so that larger budgets are reached.
const LONGER: f64 = 2.0;
/// The same in seconds, for the floors.
const LEAST_SECONDS: f64 = 250.0;
/// Most requests per second of these leaks: longer traces of more would be expensive.
const MOST_RATE: f64 = 1_000.0;

/// Seconds to the first confirmation by budget and floor.
type Confirmed = [[Option<f64>; FLOORS.len()]; BUDGETS.len()];

struct Outcome {
    class: Class,
    confirmed: Confirmed,
    /// Allowed seconds.
    allowed: f64,
}

/// Judges `arguments.traces` big caches and as many leaks, and prints the table.
pub(crate) fn run(arguments: &Arguments, family: Family) {
    let mut list = Vec::new();
    for number in 0..arguments.traces {
        list.push((Class::BigCache, number));
        let leak = LEAKS[number as usize % LEAKS.len()];
        let plan = Plan::new(leak, family, number, arguments.seed);
        if plan.traffic.rate <= MOST_RATE {
            list.push((leak, number));
        }
    }
    let outcomes = jobs::run(&list, |(class, number)| {
        judge(*class, family, *number, arguments.seed)
    });
    print(&outcomes);
}

fn judge(class: Class, family: Family, number: u64, seed: u64) -> Outcome {
    let mut plan = Plan::new(class, family, number, seed);
    if class.kind() == Kind::Leak {
        plan.seconds = (plan.seconds * LONGER).max(LEAST_SECONDS);
    }
    let mut world = World::new(&plan);
    let mut pipelines = BUDGETS.map(|budget| {
        Pipeline::new(JudgeOptions {
            budget,
            ..JudgeOptions::default()
        })
    });
    for observation in world.announce() {
        for pipeline in &mut pipelines {
            pipeline.observe(&observation);
        }
    }
    let mut confirmed = Confirmed::default();
    let mut t = 0.0;
    while t + plan.interval <= plan.seconds + 1e-9 {
        t += plan.interval;
        world.run(t, &mut |observation| {
            for pipeline in &mut pipelines {
                pipeline.observe(&observation);
            }
        });
        for (pipeline, first) in pipelines.iter_mut().zip(&mut confirmed) {
            if first.iter().all(Option::is_some) {
                continue;
            }
            let report = pipeline.report();
            let wanted = class.kind() == Kind::Leak;
            let is_confirmed = report.findings.iter().any(|finding| {
                finding.state == FindingState::Confirmed
                    && leak_of(&plan, finding).is_some() == wanted
            });
            for (floor, first) in FLOORS.iter().zip(first) {
                if is_confirmed && t >= *floor {
                    first.get_or_insert(t);
                }
            }
        }
    }
    Outcome {
        class,
        confirmed,
        allowed: allowed_seconds(time_to_oom(&plan, world.kept(), plan.base, 0.0)),
    }
}

fn print(outcomes: &[Outcome]) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "budget %",
        "at least s",
        "big_cache: false conf. %",
        "leaks: recall %",
        "confirmed s",
        "of allowed",
    ]);
    let of = |leaks: bool| -> Vec<&Outcome> {
        let all = outcomes.iter();
        all.filter(|one| (one.class.kind() == Kind::Leak) == leaks)
            .collect()
    };
    let (leaks, caches) = (of(true), of(false));
    for (row, budget) in BUDGETS.iter().enumerate() {
        for (column, floor) in FLOORS.iter().enumerate() {
            let at = |one: &Outcome| one.confirmed[row][column];
            let part = |of: &[&Outcome]| {
                let confirmed = of.iter().filter(|one| at(one).is_some()).count();
                format!("{:.1}", 100.0 * confirmed as f64 / of.len().max(1) as f64)
            };
            let seconds = |one: &&Outcome| at(one).unwrap_or(f64::INFINITY);
            let times: Vec<f64> = leaks.iter().map(seconds).collect();
            let relative: Vec<f64> = leaks.iter().map(|one| seconds(one) / one.allowed).collect();
            table.add_row([
                format!("{}", 100.0 * budget),
                format!("{floor}"),
                part(&caches),
                part(&leaks),
                format!("{:.0}", median(&times)),
                format!("{:.2}", median(&relative)),
            ]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!("{} big caches, {} leaks", caches.len(), leaks.len());
}
