//! `cargo xtask eval --bound`: whether the bound of `no_leak` holds. Each service is judged twice: without a leak, and
//! with one whose true rate is 0.1 to 10 times the bound that was stated without it.

use std::fs;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::{Bound, Cause, Finding, FindingState, Verdict};
use serde::Serialize;

use crate::arguments::{Arguments, LAB_HORIZON};
use crate::classes::Class;
use crate::jobs;
use crate::keepers::{Keeper, Policy, Trigger};
use crate::plan::{Leak, Plan};
use crate::random::Random;
use crate::score::median;
use crate::traffic::{Family, Sizes};
use crate::world::World;

/// Requests per second.
const RATES: [f64; 4] = [5.0, 20.0, 100.0, 200.0];
/// The function that leaks.
const FUNCTION: &str = "keep_slowly";
/// Most requests of a service.
const MOST_REQUESTS: f64 = 40_000.0;
/// Services judged by the default horizon have so many times the headroom: with the others' 25-250 MB, seconds to minutes
/// of observation hardly ever reach that horizon.
const MORE_HEADROOM: f64 = 10.0;
/// The true rate relative to the bound without the leak.
const SPREAD: (f64, f64) = (0.1, 10.0);

/// A service to judge.
struct Job {
    family: Family,
    /// The horizon is the lab's.
    lab: bool,
    rate: f64,
    number: u64,
}

/// The result for one service.
#[derive(Clone, Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own"
)]
struct Outcome {
    family: Family,
    lab: bool,
    rate: f64,
    number: u64,
    seconds: f64,
    /// Other memory grows too.
    drifts: bool,
    /// The leak keeps something for new tokens only.
    token_keyed: bool,
    /// Mean bytes of an entry of the leak.
    entry: f64,
    /// One of so many requests leaks.
    one_in: f64,
    /// The bound without the leak.
    before: f64,
    /// The verdict without the leak.
    benign: Verdict,
    /// True rate, bytes per second, at the last `no_leak` or at the end.
    truth: f64,
    /// Seconds until the last `no_leak`.
    at: f64,
    /// Its bound.
    bound: Option<f64>,
    /// One of so many requests, as stated with it.
    stated_one_in: Option<f64>,
    /// The bound was below the true rate at some `no_leak`.
    ever_below: bool,
    /// It was suspected or confirmed at some time.
    found: bool,
}

/// Judges `arguments.traces` services per family and horizon, and prints the figures.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut list = Vec::new();
    for number in 0..arguments.traces {
        let rate = RATES[number as usize % RATES.len()];
        for family in [Family::Tuning, Family::HeldOut] {
            list.extend([true, false].map(|lab| Job {
                family,
                lab,
                rate,
                number,
            }));
        }
    }
    let results = jobs::run(&list, |job| judge(job, arguments.seed));
    let mut outcomes: Vec<Outcome> = results.into_iter().flatten().collect();
    outcomes.sort_by_key(|one| (one.family, one.lab, one.number));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&outcomes)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&outcomes);
    Ok(())
}

/// Judges one service without and with a leak. `None`: no bound was stated without it.
fn judge(job: &Job, seed: u64) -> Option<Outcome> {
    let parts = [job.family as u64, u64::from(job.lab), job.number];
    let mixed = parts
        .iter()
        .fold(seed ^ 0x2718_2818_2845_9045, |hash, part| {
            (hash ^ part)
                .wrapping_mul(0x0000_0100_0000_01B3)
                .rotate_left(31)
        });
    let mut random = Random::new(mixed);
    let seconds = if job.lab {
        random.log_range(60.0, 600.0)
    } else {
        random.log_range(300.0, 3_600.0)
    };
    let seconds = seconds.min((MOST_REQUESTS / job.rate).max(60.0));
    let fixed = Some((job.rate, seconds));
    let mut plan = Plan::with(Class::Quiet, job.family, job.number, mixed, fixed);
    if random.chance(0.5) {
        plan.drift = 0.0;
    }
    let horizon = if job.lab {
        LAB_HORIZON
    } else {
        plan.limit = plan.base + MORE_HEADROOM * (plan.limit - plan.base);
        JudgeOptions::default().horizon_seconds
    };
    let benign = observe(&plan, horizon, 0.0);
    let before = benign.last?.bytes_per_second;
    let rate = before * random.log_range(SPREAD.0, SPREAD.1);
    let part = leak(&mut plan, rate, &mut random);
    let keeper = plan.keepers.last()?;
    let entry = keeper.sizes.mean();
    let token_keyed = keeper.trigger == Trigger::Token;
    let leaking = observe(&plan, horizon, part * entry);
    let (at, truth, said) = leaking
        .no_leak
        .map_or((0.0, leaking.truth, None), |(at, truth, bound)| {
            (at, truth, Some(bound))
        });
    Some(Outcome {
        family: job.family,
        lab: job.lab,
        rate: job.rate,
        number: job.number,
        seconds: plan.seconds,
        drifts: plan.drift > 0.0,
        token_keyed,
        entry,
        one_in: 1.0 / part,
        before,
        benign: benign.verdict,
        truth,
        at,
        bound: said.map(|bound| bound.bytes_per_second),
        stated_one_in: said.and_then(|bound| bound.one_in_requests),
        ever_below: leaking.ever_below,
        found: leaking.found,
    })
}

/// Adds a leak of about `bytes` per second, and returns the fraction of the requests that leak.
fn leak(plan: &mut Plan, bytes: f64, random: &mut Random) -> f64 {
    let token_keyed = random.chance(0.5);
    let traffic = &plan.traffic;
    let (most, route, trigger, cause) = if token_keyed {
        let part = (1.0 - traffic.anonymous) * traffic.fresh;
        (part, None, Trigger::Token, Cause::TokenKeyed)
    } else {
        (
            traffic.routes[0],
            Some(0),
            Trigger::Request,
            Cause::PerRequest,
        )
    };
    let median = random.log_range(64.0, 8_000.0);
    let mut sizes = Sizes::draw(traffic.family, median, random);
    // larger entries if the service has too few such requests
    let events = plan.requests(0.0, plan.seconds) / plan.seconds;
    let least = bytes / (events * most);
    if sizes.mean() < least {
        sizes.median *= least / sizes.mean();
    }
    let part = (bytes / (events * sizes.mean())).min(most);
    plan.leaks.push(Leak {
        keeper: plan.keepers.len(),
        cause,
    });
    plan.keepers.push(Keeper {
        function: FUNCTION.to_owned(),
        route,
        chance: if token_keyed { 1.0 } else { part / most },
        tokens: if token_keyed { part / most } else { 1.0 },
        trigger,
        policy: Policy::Forever,
        sizes,
        blocks: 1 + random.below(2),
        from: 0.0,
    });
    part
}

/// What was said about a trace.
struct Said {
    /// The last bound, whatever the verdict.
    last: Option<Bound>,
    verdict: Verdict,
    /// True rate at the end.
    truth: f64,
    /// Seconds, true rate and bound of the last `no_leak`.
    no_leak: Option<(f64, f64, Bound)>,
    ever_below: bool,
    found: bool,
}

/// Judges a trace whose requests leak so many bytes each on average.
fn observe(plan: &Plan, horizon: f64, leaked: f64) -> Said {
    let mut world = World::new(plan);
    let mut pipeline = Pipeline::new(JudgeOptions {
        horizon_seconds: horizon,
        ..JudgeOptions::default()
    });
    for observation in world.announce() {
        pipeline.observe(&observation);
    }
    let mut said = Said {
        last: None,
        verdict: Verdict::InsufficientEvidence,
        truth: 0.0,
        no_leak: None,
        ever_below: false,
        found: false,
    };
    let mut t = 0.0;
    while t + plan.interval <= plan.seconds + 1e-9 {
        t += plan.interval;
        world.run(t, &mut |observation| pipeline.observe(&observation));
        let report = pipeline.report();
        said.truth = leaked * plan.requests(0.0, t) / t;
        said.verdict = report.verdict;
        let grows = |finding: &&Finding| finding.state > FindingState::None;
        for finding in report.findings.iter().filter(grows) {
            let names = std::iter::once(&finding.site).chain(&finding.also);
            said.found |= names.into_iter().any(|site| site.function == FUNCTION);
        }
        let Some(bound) = report.bound else {
            continue;
        };
        if report.verdict == Verdict::NoLeak {
            said.ever_below |= bound.bytes_per_second < said.truth;
            said.no_leak = Some((t, said.truth, bound));
        }
        said.last = Some(bound);
    }
    said
}

fn print(outcomes: &[Outcome]) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "services",
        "leaking",
        "benign: no_leak %",
        "found",
        "no_leak",
        "within the bound %",
        "at every time %",
        "median bound / true",
    ]);
    let mut row = |name: &str, of: &dyn Fn(&Outcome) -> bool| {
        let all: Vec<&Outcome> = outcomes.iter().filter(|one| of(one)).collect();
        if all.is_empty() {
            return;
        }
        let said: Vec<(f64, &Outcome)> = all
            .iter()
            .filter_map(|one| Some((one.bound? / one.truth, *one)))
            .collect();
        let benign = all.iter().filter(|one| one.benign == Verdict::NoLeak);
        let within = said.iter().filter(|(ratio, _)| *ratio >= 1.0).count();
        let always = said.iter().filter(|(_, one)| !one.ever_below).count();
        let ratios: Vec<f64> = said.iter().map(|(ratio, _)| *ratio).collect();
        let percent = |n: usize, of: usize| match of {
            0 => "-".to_owned(),
            of => format!("{:.1}", 100.0 * n as f64 / of as f64),
        };
        table.add_row([
            name.to_owned(),
            all.len().to_string(),
            percent(benign.count(), all.len()),
            all.iter().filter(|one| one.found).count().to_string(),
            said.len().to_string(),
            percent(within, said.len()),
            percent(always, said.len()),
            if ratios.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.2}", median(&ratios))
            },
        ]);
    };
    row("all", &|_| true);
    for family in [Family::Tuning, Family::HeldOut] {
        for lab in [true, false] {
            let horizon = if lab { "1 h" } else { "7 d" };
            row(&format!("{family:?}, horizon {horizon}"), &|one| {
                one.family == family && one.lab == lab
            });
        }
    }
    for rate in RATES {
        row(&format!("{rate} requests/s"), &|one| {
            (one.rate - rate).abs() < 0.1
        });
    }
    row("other memory grows", &|one| one.drifts);
    row("nothing else grows", &|one| !one.drifts);
    row("per new token", &|one| one.token_keyed);
    row("per request", &|one| !one.token_keyed);
    row("entries < 1 KiB", &|one| one.entry < 1_024.0);
    row("entries >= 1 KiB", &|one| one.entry >= 1_024.0);
    let covered = |one: &Outcome| one.stated_one_in.is_some_and(|stated| one.one_in <= stated);
    row("no_leak, at least 1 of the stated N leaks", &|one| {
        covered(one)
    });
    row("no_leak, fewer than 1 of the stated N", &|one| {
        one.bound.is_some() && !covered(one)
    });
    let edges = [0.0, 0.3, 1.0, 3.0, 100.0];
    for pair in edges.windows(2) {
        row(
            &format!("true = {} to {} bounds", pair[0], pair[1]),
            &|one| {
                let times = one.truth / one.before;
                times >= pair[0] && times < pair[1]
            },
        );
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leak_has_the_rate_that_was_asked_for() {
        for family in [Family::Tuning, Family::HeldOut] {
            for number in 0..6 {
                let fixed = Some((100.0, 200.0));
                let mut plan = Plan::with(Class::Quiet, family, number, 1, fixed);
                let mut random = Random::new(number);
                let part = leak(&mut plan, 20_000.0, &mut random);
                let entry = plan.keepers[plan.leaks[0].keeper].sizes.mean();
                let mut world = World::new(&plan);
                world.run(plan.seconds, &mut |_| {});
                let asked = part * entry * plan.requests(0.0, plan.seconds) / plan.seconds;
                assert!((asked / 20_000.0 - 1.0).abs() < 0.01, "{asked}");
                let leaked = world.leaking();
                assert!(
                    (leaked / asked - 1.0).abs() < 0.35,
                    "{family:?} {number}: {leaked} of {asked}"
                );
            }
        }
    }
}
