//! One explanation of a signal's growth: its slope, and how likely it makes the levels that were read.

use std::collections::BTreeMap;

use crate::attribution::keys::RouteId;
use crate::attribution::routes::Routes;

use super::curve::{Curve, EventKind, Variable};

/// A service that has requests grows by them more often than by a timer.
const TIMER: f64 = -1.0;
/// Part of the requests that are met in code that fills something although another route does.
const ELSEWHERE: f64 = 0.2;
/// A route's part of them at least.
const UNHEARD: f64 = 1e-3;
/// Requests that count for so many at most.
const MOST_STACK_REQUESTS: f64 = 20.0;
/// Looks are many and what the noise is like is a guess: their logarithms count for this part.
const TEMPER: f64 = 0.3;
/// Part of the entries that are seen one look before or after the request that made them, squared and twice: a
/// request takes a few of the 50 ms between two looks.
const ASTRIDE: f64 = 0.05;
/// One entry for each event is what programs do, and only one in twenty wrong explanations comes so close to
/// it by chance: worth its logarithm.
const EXACTLY_ONE: f64 = 3.0;
/// A whole number of entries for each: one in sixteen wrong explanations comes so close to one.
const WHOLE: f64 = 2.5;
/// More than one, but not a whole number of them, is what few programs do.
const NOT_WHOLE: f64 = -2.0;
/// How close.
const EXACT: f64 = 0.03;

/// What is known of a signal beside its levels.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Its levels are bytes.
    pub bytes: bool,
    /// Seconds from the beginning of the observation to the first point that is looked at.
    pub start: f64,
    /// Requests, by route, that were met in the code that fills it.
    pub seen: &'a BTreeMap<RouteId, f64>,
    /// All routes.
    pub routes: &'a Routes,
    /// The levels are looks between censuses.
    pub length_samples: bool,
}

/// How well one variable explains a signal.
pub(super) struct Fit {
    pub(super) variable: Variable,
    /// Growth per event.
    pub(super) slope: f64,
    /// Logarithm of the likelihood.
    pub(super) log: f64,
}

/// The levels that are looked at.
pub(super) struct Regression<'a> {
    curve: &'a Curve,
    from: usize,
    to: usize,
    growth: Vec<f64>,
    seconds: Vec<f64>,
    /// A variance below this means nothing.
    floor: f64,
    about: Context<'a>,
}

impl<'a> Regression<'a> {
    /// The steps from point `from` to the last; `None` when there is no step.
    pub(super) fn new(curve: &'a Curve, from: usize, about: Context<'a>) -> Option<Self> {
        let to = curve.len().checked_sub(1).filter(|to| *to > from)?;
        let growth = curve.growth(from, to);
        let typical = growth.iter().sum::<f64>() / growth.len() as f64;
        Some(Self {
            curve,
            from,
            to,
            seconds: (from..to).map(|i| curve.seconds(i, i + 1)).collect(),
            floor: if about.length_samples {
                ASTRIDE * typical
            } else {
                let least = if about.bytes { 1.0 } else { 0.2 };
                (0.01 * typical).powi(2).max(least)
            },
            growth,
            about,
        })
    }

    pub(super) fn events(&self, variable: Variable) -> Vec<f64> {
        self.curve.events(variable, self.from, self.to)
    }

    pub(super) fn fit(&self, variable: Variable) -> Option<Fit> {
        let x = self.events(variable);
        let (slopes, log) = self.explained_by(&[&x])?;
        let slope = *slopes.first()?;
        let prior = match variable.what {
            EventKind::Seconds => TIMER,
            _ if self.about.bytes => 0.0,
            _ => prior(slope),
        };
        let log = log + prior + self.stack_log_likelihood(variable);
        (slope > 0.0).then_some(Fit {
            variable,
            slope,
            log,
        })
    }

    /// Logarithm of the likelihood of what was seen at work in the code that fills the signal, if `variable` is
    /// what fills it: its own requests, or in [`ELSEWHERE`] of the cases any.
    pub(super) fn stack_log_likelihood(&self, variable: Variable) -> f64 {
        let seen = self.about.seen;
        let total: f64 = seen.values().sum();
        if total <= 0.0 {
            return 0.0;
        }
        let events = |variable| self.events(variable).iter().sum::<f64>();
        let part = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let all = events(Variable::anywhere(EventKind::All));
        let own = match variable.route {
            None => events(variable),
            Some(_) => 1.0,
        };
        let log: f64 = seen
            .iter()
            .map(|(route, count)| {
                let on = |what| {
                    events(Variable {
                        route: Some(*route),
                        what,
                    })
                };
                let here = match (variable.what, variable.route) {
                    (EventKind::Seconds, _) => 0.0,
                    (what, None) => part(on(what), own),
                    (_, Some(only)) => f64::from(u8::from(only == *route)),
                };
                let any = part(on(EventKind::All), all);
                count
                    * ((1.0 - ELSEWHERE) * here + ELSEWHERE * any)
                        .max(UNHEARD)
                        .ln()
            })
            .sum();
        // those met at one time have much in common
        log * (MOST_STACK_REQUESTS / total).min(1.0)
    }

    /// Slopes of one or two terms and the logarithm of the likelihood, with the noise that suits them best.
    pub(super) fn explained_by(&self, terms: &[&[f64]]) -> Option<(Vec<f64>, f64)> {
        let (noises, temper) = if self.about.length_samples {
            (&NOISES[..FINE_NOISES], TEMPER)
        } else {
            (&NOISES[..], 1.0)
        };
        noises
            .iter()
            .filter_map(|noise| self.with_noise(*noise, terms))
            .map(|(slopes, log)| (slopes, temper * log))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn with_noise(&self, noise: Noise, terms: &[&[f64]]) -> Option<(Vec<f64>, f64)> {
        let filter = Filter::new(noise, &self.seconds);
        let growth = filter.innovations(&self.growth);
        let terms: Vec<Vec<f64>> = terms.iter().map(|term| filter.innovations(term)).collect();
        let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let slopes = match terms.as_slice() {
            [x] => {
                let xx = product(x, x);
                (xx > 0.0).then(|| vec![(product(x, &growth) / xx).max(0.0)])?
            }
            [a, b] => {
                let (aa, bb, ab) = (product(a, a), product(b, b), product(a, b));
                let (ay, by) = (product(a, &growth), product(b, &growth));
                let det = aa * bb - ab * ab;
                (det > 1e-6 * aa * bb)
                    .then(|| vec![(ay * bb - by * ab) / det, (by * aa - ay * ab) / det])?
            }
            _ => return None,
        };
        let left: Vec<f64> = (0..growth.len())
            .map(|i| {
                let explained: f64 = slopes.iter().zip(&terms).map(|(s, term)| s * term[i]).sum();
                growth[i] - explained
            })
            .collect();
        let n = growth.len() as f64;
        // a spread that is below the floor by this noise is at the floor
        let spread = product(&left, &left) / n;
        let spread = spread.max(self.floor / noise.step().max(noise.level));
        Some((slopes, -n / 2.0 * spread.ln() - filter.logs / 2.0))
    }
}

/// Variances of the noise, against each other: of each level, and of each second between levels.
#[derive(Clone, Copy)]
struct Noise {
    level: f64,
    second: f64,
}

impl Noise {
    /// What a step of three seconds adds.
    fn step(self) -> f64 {
        3.0 * self.second
    }
}

/// From levels that are read a little early or late to growth that wanders.
const NOISES: [Noise; 5] = [
    Noise {
        level: 1.0,
        second: 0.0,
    },
    Noise {
        level: 1.0,
        second: 0.03,
    },
    Noise {
        level: 1.0,
        second: 0.3,
    },
    Noise {
        level: 1.0,
        second: 3.0,
    },
    Noise {
        level: 0.0,
        second: 1.0,
    },
];

/// Of these, so many are tried on looks between censuses: there is little time to wander.
const FINE_NOISES: usize = 3;

/// The Kalman filter of the local level model: turns steps into innovations that are independent and of
/// equal variance if their noise is as assumed.
struct Filter {
    /// Of each step: gain, and one over the standard deviation of its innovation.
    gains: Vec<(f64, f64)>,
    /// Sum of the logarithms of those variances.
    logs: f64,
}

impl Filter {
    fn new(noise: Noise, seconds: &[f64]) -> Self {
        let mut known = noise.level;
        let mut logs = 0.0;
        let gains = seconds
            .iter()
            .map(|seconds| {
                let ahead = known + noise.second * seconds.max(0.1);
                let variance = ahead + noise.level;
                known = ahead * noise.level / variance;
                logs += variance.ln();
                (ahead / variance, variance.sqrt().recip())
            })
            .collect();
        Self { gains, logs }
    }

    fn innovations(&self, steps: &[f64]) -> Vec<f64> {
        // how far the level is from where it was thought to be
        let mut off = 0.0;
        self.gains
            .iter()
            .zip(steps)
            .map(|((gain, scale), step)| {
                let innovation = off + step;
                off = innovation * (1.0 - gain);
                innovation * scale
            })
            .collect()
    }
}

/// Logarithm of how much more, or less, a program is likely to add so many entries for each event.
fn prior(slope: f64) -> f64 {
    if (slope - 1.0).abs() < EXACT {
        EXACTLY_ONE
    } else if slope > 1.5 && (slope - slope.round()).abs() < EXACT {
        WHOLE
    } else if slope > 1.0 && (slope - slope.round()).abs() > EXACT * slope {
        NOT_WHOLE
    } else {
        0.0
    }
}
