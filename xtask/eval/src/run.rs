//! Runs one trace through the judge and the baselines.

use heaptide_judge::events::Observation;
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::{Cause, Finding, FindingState, Report, Verdict};
use serde::Serialize;

use crate::arguments::LAB_HORIZON;
use crate::baselines::{BASELINES, Baselines};
use crate::classes::{Class, Kind};
use crate::keepers::Policy;
use crate::plan::{Leak, Plan, ROUTES};
use crate::traffic::Family;
use crate::world::World;

/// Requests of both kinds from which a cause can be known, and below which it cannot.
const KNOWABLE: f64 = 60.0;
const UNKNOWABLE: f64 = 10.0;

/// Seconds after the attach from which a cache that was full before must not be suspected.
const FULL_SECONDS: f64 = 10.0;

/// Seconds after the onset of a leak in which `no_leak` is not counted as wrong: blocks are judged 10 s after the end of
/// their request.
const BLIND_SECONDS: f64 = 20.0;

/// Score of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CauseScore {
    /// It could be known, and was right.
    Right,
    /// It could be known, and was wrong.
    Wrong,
    /// It could be known, and was `indeterminate`.
    Unsaid,
    /// It could not be known, and was `indeterminate`.
    Abstained,
    /// It could not be known, and was not `indeterminate`.
    Guessed,
}

/// A forecast and the truth.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Forecast {
    /// Seconds until memory runs out.
    pub(crate) truth: f64,
    pub(crate) median: f64,
    pub(crate) early: f64,
    pub(crate) late: f64,
}

/// The result of a trace.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a figure of its own")]
pub(crate) struct Outcome {
    pub(crate) class: String,
    pub(crate) kind: Kind,
    pub(crate) family: Family,
    pub(crate) number: u64,
    /// Simulated seconds that the judge saw.
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    /// Seconds from the onset to the first suspicion of a leak.
    pub(crate) suspected: Option<f64>,
    /// Seconds from the onset to the first confirmation of a leak.
    pub(crate) confirmed: Option<f64>,
    /// Seconds from the onset until memory would run out.
    pub(crate) oom: f64,
    /// Every leak has a state at the end, and one is confirmed.
    pub(crate) found: bool,
    /// Something that is not a leak was confirmed at some time.
    pub(crate) false_confirmation: bool,
    /// Something that is not a leak has a state at the end. For caches that were full before: at any time after
    /// [`FULL_SECONDS`].
    pub(crate) false_suspicion: bool,
    /// The first wrong finding.
    pub(crate) false_finding: Option<String>,
    /// The worst finding at the end has the route and function of a leak.
    pub(crate) place: Option<bool>,
    /// The last verdict was `no_leak`.
    pub(crate) no_leak: bool,
    /// At some time it was, with a bound below the true rate.
    pub(crate) missed: bool,
    pub(crate) cause: Option<CauseScore>,
    pub(crate) said: Option<Cause>,
    pub(crate) forecast: Option<Forecast>,
    pub(crate) baselines: [f64; BASELINES.len()],
}

/// Runs trace `number`.
pub(crate) fn trace(class: Class, family: Family, number: u64, seed: u64) -> Outcome {
    let plan = Plan::new(class, family, number, seed);
    let mut run = Run::new(&plan);
    let mut world = World::new(&plan);
    let mut pipeline = Pipeline::new(JudgeOptions {
        horizon_seconds: LAB_HORIZON,
        ..JudgeOptions::default()
    });
    let mut baselines = Baselines::default();
    for observation in world.announce() {
        pipeline.observe(&observation);
    }
    let mut stop = f64::INFINITY;
    let mut t = 0.0;
    while t + plan.interval <= plan.seconds + 1e-9 {
        t += plan.interval;
        let watched = t <= stop;
        world.run(t, &mut |observation| {
            match &observation {
                Observation::Memory(sample) => baselines.memory(sample),
                Observation::Snapshot(snapshot) => baselines.snapshot(snapshot),
                _ => {}
            }
            if watched {
                pipeline.observe(&observation);
            }
        });
        if watched {
            let report = pipeline.report();
            run.look(&report, t, &world);
            // a confirmed leak is followed for a while; the rest of the trace is for the baselines
            if let Some(at) = run.confirmed_at
                && plan.traffic.stops.is_none()
            {
                stop = stop.min(at + 0.5 * (at - run.onset) + 20.0);
            }
        }
    }
    let mut outcome = run.finish(family, number, t.min(stop));
    // a table grows in steps, so the only possible forecast is the time of the next step
    if let Some((forecast, used, at)) = run.forecast.filter(|_| !plan.is_one_block()) {
        let truth = time_to_oom(&plan, world.kept(), used, at);
        outcome.forecast = Some(Forecast { truth, ..forecast });
    }
    outcome.oom = run.onset_oom(&world);
    outcome.baselines = baselines.scores();
    outcome
}

struct Run<'a> {
    plan: &'a Plan,
    onset: f64,
    suspected_at: Option<f64>,
    confirmed_at: Option<f64>,
    false_confirmation: bool,
    missed: bool,
    /// A cache that was full before the attach had a state more than [`FULL_SECONDS`] after it.
    suspected_late: bool,
    false_finding: Option<String>,
    forecast: Option<(Forecast, f64, f64)>,
    last: Option<Report>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let leaks = plan.leaks.iter();
        Self {
            plan,
            onset: leaks
                .map(|leak| plan.keepers[leak.keeper].from)
                .fold(0.0, f64::max),
            suspected_at: None,
            confirmed_at: None,
            false_confirmation: false,
            missed: false,
            suspected_late: false,
            false_finding: None,
            forecast: None,
            last: None,
        }
    }

    fn look(&mut self, report: &Report, t: f64, world: &World) {
        for finding in report
            .findings
            .iter()
            .filter(|f| f.state > FindingState::None)
        {
            if leak_of(self.plan, finding).is_some() {
                self.suspected_at.get_or_insert(t);
                if finding.state == FindingState::Confirmed && self.confirmed_at.is_none() {
                    self.confirmed_at = Some(t);
                    self.forecast = forecast(finding).map(|forecast| (forecast, world.used, t));
                }
                continue;
            }
            let late = t > FULL_SECONDS && self.was_full(finding);
            self.suspected_late |= late;
            let confirmed = finding.state == FindingState::Confirmed;
            self.false_confirmation |= confirmed;
            if confirmed || late {
                self.false_finding.get_or_insert_with(|| named(finding, t));
            }
        }
        if report.verdict == Verdict::NoLeak
            && let Some(bound) = &report.bound
        {
            self.missed |=
                t > self.onset + BLIND_SECONDS && bound.bytes_per_second < world.leaking();
        }
        self.last = Some(report.clone());
    }

    /// Whether a finding is a cache that was full before the attach. (Pools, first requests and batches are never full.)
    fn was_full(&self, finding: &Finding) -> bool {
        let mut keepers = self.plan.keepers.iter();
        self.plan.before > 0.0
            && keepers.any(|keeper| {
                keeper.function == finding.site.function
                    && matches!(
                        keeper.policy,
                        Policy::Lru(_) | Policy::Ttl(_) | Policy::Exponential(_)
                    )
            })
    }

    fn finish(&self, family: Family, number: u64, seconds: f64) -> Outcome {
        let findings = self.last.iter().flat_map(|report| &report.findings);
        let states: Vec<&Finding> = findings.filter(|f| f.state > FindingState::None).collect();
        let confirmed = states
            .iter()
            .any(|f| f.state == FindingState::Confirmed && leak_of(self.plan, f).is_some());
        let all = self.plan.leaks.iter().all(|leak| {
            let function = &self.plan.keepers[leak.keeper].function;
            states.iter().any(|f| {
                leak_of(self.plan, f)
                    .is_some_and(|l| &self.plan.keepers[l.keeper].function == function)
            })
        });
        let top = states.first().copied();
        let lossy = self.plan.class.kind() == Kind::LossyLeak;
        let place = (!self.plan.leaks.is_empty())
            .then_some(top)
            .flatten()
            .map(|top| {
                leak_of(self.plan, top).is_some_and(|leak| {
                    self.plan.keepers[leak.keeper].function == top.site.function
                }) && (self.plan.faults.wrong <= 0.0 || top.route == ROUTES[0])
            });
        let scored = top.and_then(|top| Some((leak_of(self.plan, top)?, top)));
        let since = |at: Option<f64>| at.map(|at| at - self.onset);
        Outcome {
            class: self.plan.class.name(),
            kind: self.plan.class.kind(),
            family,
            number,
            seconds,
            rate: self.plan.traffic.rate,
            suspected: since(self.suspected_at),
            confirmed: since(self.confirmed_at),
            oom: 0.0,
            found: all && !self.plan.leaks.is_empty() && (confirmed || lossy),
            false_confirmation: self.false_confirmation || (lossy && self.confirmed_at.is_some()),
            false_suspicion: states.iter().any(|f| leak_of(self.plan, f).is_none())
                || self.suspected_late,
            false_finding: self.false_finding.clone().or_else(|| {
                states
                    .iter()
                    .find(|f| leak_of(self.plan, f).is_none())
                    .map(|f| named(f, seconds))
            }),
            no_leak: self
                .last
                .as_ref()
                .is_some_and(|report| report.verdict == Verdict::NoLeak),
            missed: self.missed,
            place,
            cause: scored.and_then(|(leak, top)| self.cause(leak, top.cause, seconds)),
            said: scored.map(|(_, top)| top.cause),
            forecast: None,
            baselines: [0.0; BASELINES.len()],
        }
    }

    fn cause(&self, leak: &Leak, said: Cause, seconds: f64) -> Option<CauseScore> {
        let keeper = &self.plan.keepers[leak.keeper];
        let traffic = &self.plan.traffic;
        let knowable = match keeper.route {
            None => true,
            Some(route) => {
                let tokens = self.plan.requests(keeper.from, seconds - 12.0)
                    * traffic.routes[route]
                    * (1.0 - traffic.anonymous);
                // unsampled requests are unknown
                let seen = self.plan.faults.sampling;
                let (new, repeat) = (traffic.fresh, 1.0 - traffic.fresh);
                let least = seen * tokens * new.min(repeat);
                // few new tokens that all keep something are enough, if many repeated tokens keep nothing
                let unknowable = if leak.cause == Cause::TokenKeyed {
                    seen * tokens * repeat < UNKNOWABLE
                } else {
                    least < UNKNOWABLE
                };
                if least < KNOWABLE && !unknowable {
                    return None;
                }
                !unknowable
            }
        };
        // one block has one owner, whichever requests added the entries
        let one_block = self.plan.is_one_block();
        Some(match (knowable, said) {
            (true, said) if said == leak.cause => CauseScore::Right,
            (_, Cause::Indeterminate) if one_block => CauseScore::Abstained,
            (true, Cause::Indeterminate) => CauseScore::Unsaid,
            (true, _) => CauseScore::Wrong,
            (false, Cause::Indeterminate) => CauseScore::Abstained,
            // requests without a token can show that none is needed
            (false, Cause::PerRequest)
                if self.plan.keepers[leak.keeper].trigger == crate::keepers::Trigger::Request
                    && traffic.anonymous > 0.0 =>
            {
                return None;
            }
            (false, _) => CauseScore::Guessed,
        })
    }

    fn onset_oom(&self, world: &World) -> f64 {
        time_to_oom(self.plan, world.kept(), self.plan.base, self.onset)
    }
}

/// The leak of a finding.
pub(crate) fn leak_of<'a>(plan: &'a Plan, finding: &Finding) -> Option<&'a Leak> {
    plan.leaks.iter().find(|leak| {
        let keeper = &plan.keepers[leak.keeper];
        let route = keeper.route.map_or("(background)", |route| ROUTES[route]);
        let names = std::iter::once(&finding.site).chain(&finding.also);
        // blocks attributed to a wrong request are found at that request's route
        let same_route = finding.route == route || plan.faults.wrong > 0.0;
        same_route
            && names
                .into_iter()
                .any(|site| site.function == keeper.function)
    })
}

fn named(finding: &Finding, t: f64) -> String {
    format!(
        "at {t:.0} s {:?} {:?} {} {}: {}",
        finding.state,
        finding.cause,
        finding.route,
        finding.site.function,
        finding.evidence.join("; ")
    )
}

fn forecast(finding: &Finding) -> Option<Forecast> {
    let oom = finding.time_to_oom_seconds?;
    Some(Forecast {
        truth: 0.0,
        median: oom.median,
        early: oom.early,
        late: oom.late.unwrap_or(f64::INFINITY),
    })
}

/// Seconds after `at` until `used` reaches the limit, if each request and each second keep so much.
pub(crate) fn time_to_oom(plan: &Plan, kept: (f64, f64), used: f64, at: f64) -> f64 {
    let (per_request, per_second) = (kept.0 * plan.overhead, kept.1 * plan.overhead);
    // as if the traffic went on
    let rate = per_request * plan.traffic.rate + per_second;
    if rate <= 0.0 {
        return f64::INFINITY;
    }
    let step = ((plan.limit - used) / rate / 500.0).max(0.1);
    let mut used = used;
    let mut t = at;
    for _ in 0..100_000 {
        if used >= plan.limit {
            break;
        }
        used += (per_request * plan.traffic.rate * plan.traffic.shape.at(t + step / 2.0)
            + per_second)
            * step;
        t += step;
    }
    t - at
}
