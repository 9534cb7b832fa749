//! Fits explanatory variables to a signal's growth: slopes and log-likelihoods.

use std::collections::BTreeMap;

use crate::attribution::keys::RouteId;
use crate::attribution::routes::Routes;

use super::curve::{Curve, EventKind, Variable};

/// Log prior of time: a service with requests grows by requests more often than by a timer.
const TIMER: f64 = -1.0;
/// Part of the stack-attributed requests that are independent of the route that fills the container.
const ELSEWHERE: f64 = 0.2;
/// Minimum probability of a route.
const UNHEARD: f64 = 1e-3;
/// Maximum weight of the stack-attributed requests, in requests.
const MOST_STACK_REQUESTS: f64 = 20.0;
/// Log-likelihoods of length samples are scaled by this factor, because samples are many and the noise
/// model is approximate.
const TEMPER: f64 = 0.3;
/// Minimum variance of length samples per entry: an entry and the end of its request may fall into
/// different 50 ms intervals.
const ASTRIDE: f64 = 0.05;
/// Log prior of exactly one entry per event: programs do that, and only 1 in 20 wrong variables has such a
/// slope by chance.
const EXACTLY_ONE: f64 = 3.0;
/// Log prior of another whole number: 1 in 16 wrong variables has such a slope by chance.
const WHOLE: f64 = 2.5;
/// Log prior of more than one entry per event, but not a whole number: few programs do that.
const NOT_WHOLE: f64 = -2.0;
/// Tolerance for a whole number.
const EXACT: f64 = 0.03;

/// Attributes of a signal that a regression needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whether its levels are bytes.
    pub bytes: bool,
    /// Seconds from the start of the observation to the first point.
    pub start: f64,
    /// Stack-attributed requests in its writer sites, by route.
    pub seen: &'a BTreeMap<RouteId, f64>,
    /// All routes.
    pub routes: &'a Routes,
    /// Whether the levels are length samples.
    pub length_samples: bool,
}

/// The fit of one explanatory variable.
pub(super) struct Fit {
    pub(super) variable: Variable,
    /// Growth per event.
    pub(super) slope: f64,
    /// Log-likelihood with priors.
    pub(super) log: f64,
}

/// The intervals of a regression. Only intervals with traced requests count, because assumed requests cannot
/// distinguish explanations.
pub(super) struct Regression<'a> {
    curve: &'a Curve,
    from: usize,
    to: usize,
    /// By interval since `from`, including those without traced requests.
    growth: Vec<f64>,
    /// Seconds, and whether the requests were traced.
    intervals: Vec<(f64, bool)>,
    /// Minimum variance.
    floor: f64,
    about: Context<'a>,
}

impl<'a> Regression<'a> {
    /// The intervals from point `from` to the last. `None` without an interval.
    pub(super) fn new(curve: &'a Curve, from: usize, about: Context<'a>) -> Option<Self> {
        let to = curve.len().checked_sub(1).filter(|to| *to > from)?;
        let step = |step| (curve.seconds(step, step + 1), curve.is_traced(step));
        let intervals: Vec<(f64, bool)> = (from..to).map(step).collect();
        let mut growth = curve.growth(from, to);
        clear(&mut growth, intervals.iter().map(|one| one.1));
        let traced = intervals.iter().filter(|one| one.1).count().max(1);
        let typical = growth.iter().sum::<f64>() / traced as f64;
        Some(Self {
            curve,
            from,
            to,
            intervals,
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

    /// Number of intervals with traced requests.
    pub(super) fn len(&self) -> usize {
        self.intervals.iter().filter(|one| one.1).count()
    }

    /// Events of `variable` in each interval, none in those without traced requests.
    pub(super) fn events(&self, variable: Variable) -> Vec<f64> {
        let mut events = self.curve.events(variable, self.from, self.to);
        clear(&mut events, self.intervals.iter().map(|one| one.1));
        events
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

    /// Log-likelihood of the stack-attributed requests if `variable` explains the growth: with probability
    /// 1 - [`ELSEWHERE`] its own requests, else any.
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
        // Requests at the same time are not independent.
        log * (MOST_STACK_REQUESTS / total).min(1.0)
    }

    /// Slopes of one or two terms and the log-likelihood, with the best noise model.
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
        let filter = Filter::new(noise, &self.intervals);
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
        let n = self.len().max(1) as f64;
        // The variance is at least the minimum variance under this noise model.
        let spread = product(&left, &left) / n;
        let spread = spread.max(self.floor / noise.step().max(noise.level));
        Some((slopes, -n / 2.0 * spread.ln() - filter.logs / 2.0))
    }
}

/// Noise model: relative variances of each level and of each second between levels.
#[derive(Clone, Copy)]
struct Noise {
    level: f64,
    second: f64,
}

impl Noise {
    /// Variance of an interval of three seconds.
    fn step(self) -> f64 {
        3.0 * self.second
    }
}

/// From reading errors only to a random walk only.
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

/// Number of noise models for length samples: their intervals are short, so the random walk is small.
const FINE_NOISES: usize = 3;

/// Sets the values of intervals without traced requests to zero.
fn clear(values: &mut [f64], traced: impl Iterator<Item = bool>) {
    for (value, _) in values.iter_mut().zip(traced).filter(|one| !one.1) {
        *value = 0.0;
    }
}

/// The Kalman filter of the local level model. It turns increments into innovations, which are independent
/// and of equal variance under the noise model. After an interval without traced requests it starts anew.
struct Filter {
    /// For each interval: the gain, and the reciprocal of the innovation's standard deviation. Without traced
    /// requests they are 1 and 0: such an interval is not evidence, and the next one does not depend on it.
    gains: Vec<(f64, f64)>,
    /// Sum of the logarithms of those variances.
    logs: f64,
}

impl Filter {
    /// `intervals`: seconds, and whether requests were traced.
    fn new(noise: Noise, intervals: &[(f64, bool)]) -> Self {
        let mut known = noise.level;
        let mut logs = 0.0;
        let gains = intervals
            .iter()
            .map(|(seconds, traced)| {
                if !traced {
                    known = noise.level;
                    return (1.0, 0.0);
                }
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
        // The error of the predicted level.
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

/// Log prior of `slope` entries per event.
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
