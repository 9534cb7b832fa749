//! Which route and token class makes a gauge grow: regression of its growth on what came between its
//! levels.
//!
//! Every candidate explains the levels by one slope on its events. What it leaves is a level that wanders
//! and is read a little early or late (the local level model; the mixture of both that suits it best). What
//! the best does not beat by [`DECISIVE`] in the logarithm of the likelihood stays possible, and what all
//! that is possible agree on is said: a route, a cause, or neither.

use std::collections::BTreeMap;

use crate::attribution::routes::{RouteId, Routes};
use crate::report::Cause;

use super::curve::{Curve, Driver, What};
use crate::findings::options::{PER_REQUEST_ABOVE, TOKEN_KEYED_BELOW};

/// Logarithm of the likelihood ratio above which one explanation excludes another.
pub const DECISIVE: f64 = 5.0;
/// The same above which the better of two explanations of unlike complexity is no longer believed.
const DOUBTFUL: f64 = 3.0;
/// Steps that a regression needs.
const LEAST_STEPS: usize = 3;
/// After an attach tokens look new that the service knows: steps from that time are left out, if
/// enough others are there.
const LEARNING_SECONDS: f64 = 5.0;
/// Events of two classes that must have come before they are told apart.
const LEAST_EVENTS: f64 = 20.0;
/// One entry for each event is what programs do, and only one in twenty wrong explanations comes so close to
/// it by chance: worth its logarithm.
const EXACTLY_ONE: f64 = 3.0;
/// A whole number of entries for each: one in sixteen wrong explanations comes so close to one.
const WHOLE: f64 = 2.5;
/// More than one, but not a whole number of them, is what few programs do.
const NOT_WHOLE: f64 = -2.0;
/// A service that has requests grows by them more often than by a timer.
const TIMER: f64 = -1.0;
/// Part of the requests that are met in code that fills something although another route does.
const ELSEWHERE: f64 = 0.2;
/// A route's part of them at least.
const UNHEARD: f64 = 1e-3;
/// Requests that count for so many at most.
const MOST_WITNESSES: f64 = 20.0;
/// How close.
const EXACT: f64 = 0.03;
/// Part of the growth that each of two terms must explain.
const PART: f64 = 0.1;
/// Part of a route's credentials that may have been missed.
const UNCERTAIN: f64 = 0.2;

/// What explains the growth of a gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The best explanation.
    pub driver: Driver,
    /// Growth per event of it.
    pub slope: f64,
    /// Growth per request with a new and with a repeated token, when both keep something.
    pub two: Option<(f64, f64)>,
    /// What cannot be excluded, the best among it.
    pub possible: Vec<Driver>,
    /// What they agree on.
    pub cause: Cause,
    /// The same for the route; [`RouteId::BACKGROUND`] for background, `None`: undecided.
    pub route: Option<RouteId>,
}

struct Fit {
    driver: Driver,
    slope: f64,
    log: f64,
}

/// The levels that are looked at.
struct Steps<'a> {
    curve: &'a Curve,
    from: usize,
    to: usize,
    growth: Vec<f64>,
    seconds: Vec<f64>,
    /// A variance below this means nothing.
    floor: f64,
    about: About<'a>,
}

/// What is known of a gauge beside its levels.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// Its levels are bytes.
    pub bytes: bool,
    /// Seconds from the beginning of the observation to the first point that is looked at.
    pub start: f64,
    /// Requests, by route, that were met in the code that fills it.
    pub seen: &'a BTreeMap<RouteId, f64>,
    /// All routes.
    pub routes: &'a Routes,
    /// The levels are looks between censuses.
    pub fine: bool,
}

/// Explains the growth of `curve` since point `from`.
pub fn explain(curve: &Curve, from: usize, about: About) -> Option<Explained> {
    let last = curve.len().checked_sub(1)?;
    let known = (from..last)
        .find(|i| about.start + curve.seconds(from, *i) >= LEARNING_SECONDS)
        .unwrap_or(from);
    let from = if last >= known + LEAST_STEPS {
        known
    } else {
        from
    };
    let whole = over(curve, from, about)?;
    if whole.cause != Cause::Indeterminate && whole.route.is_some() {
        return Some(whole);
    }
    // what was learnt slowly may be clear in the later half
    let half = from + (last - from) / 2;
    let late = (last - half >= 2 * LEAST_STEPS)
        .then(|| over(curve, half, about))
        .flatten();
    Some(
        late.filter(|late| late.cause != Cause::Indeterminate && late.route.is_some())
            .unwrap_or(whole),
    )
}

/// Looks between censuses that are enough for a better explanation than theirs.
const LEAST_LOOKS: usize = 100;

/// Looks are many and what the noise is like is a guess: their logarithms count for this part.
const TEMPER: f64 = 0.3;
/// Part of the entries that are seen one look before or after the request that made them, squared and twice: a
/// request takes a few of the 50 ms between two looks.
const ASTRIDE: f64 = 0.05;

/// What the looks between censuses say, where they say more than the censuses do.
pub fn sharper(slow: Option<Explained>, fine: &Curve, about: About) -> Option<Explained> {
    let about = About {
        fine: true,
        ..about
    };
    let decided = |one: &Explained| one.cause != Cause::Indeterminate && one.route.is_some();
    let from = fine.len().saturating_sub(1);
    let grown = fine.len() > LEAST_LOOKS && fine.value(from) - fine.value(0) >= LEAST_EVENTS;
    let sharp = grown.then(|| over(fine, 0, about)).flatten();
    match (slow, sharp) {
        (_, Some(sharp)) if decided(&sharp) => Some(sharp),
        (slow, _) => slow,
    }
}

fn over(curve: &Curve, from: usize, about: About) -> Option<Explained> {
    let About { bytes, routes, .. } = about;
    let to = curve.len().checked_sub(1)?;
    if to < from + LEAST_STEPS {
        return None;
    }
    let growth = curve.growth(from, to);
    let typical = growth.iter().sum::<f64>() / growth.len() as f64;
    let steps = Steps {
        curve,
        from,
        to,
        seconds: (from..to).map(|i| curve.seconds(i, i + 1)).collect(),
        floor: if about.fine {
            ASTRIDE * typical
        } else {
            (0.01 * typical).powi(2).max(if bytes { 1.0 } else { 0.2 })
        },
        growth,
        about,
    };
    let mut fits: Vec<Fit> = candidates(curve, bytes)
        .into_iter()
        .filter_map(|driver| steps.fit(driver))
        .collect();
    fits.sort_by(|a, b| b.log.total_cmp(&a.log).then(a.driver.cmp(&b.driver)));
    // what concerns all routes alike must be better than any one route, or time, to be thought of
    let general = |fit: &Fit| fit.driver.route.is_none() && fit.driver.what != What::Seconds;
    let special = fits.iter().find(|fit| !general(fit))?;
    let best = match fits.first() {
        Some(first) if general(first) && first.log - special.log >= DECISIVE => first,
        _ => special,
    };
    let possible: Vec<Driver> = fits
        .iter()
        .filter(|fit| (general(fit) == general(best)) && best.log - fit.log < DECISIVE)
        .map(|fit| fit.driver)
        .collect();
    let cause = agreed(possible.iter().map(|driver| cause_of(*driver)));
    let mut out = Explained {
        driver: best.driver,
        slope: best.slope,
        two: None,
        cause: cause.unwrap_or(Cause::Indeterminate),
        route: agreed(possible.iter().map(|driver| route_of(*driver))),
        possible,
    };
    let both = both_classes(&steps, curve);
    if both
        .as_ref()
        .is_some_and(|both| both.2 - best.log >= DOUBTFUL)
    {
        out.cause = Cause::Indeterminate;
    }
    if let Some((driver, slopes, log)) = both
        && log - best.log >= DECISIVE
    {
        let ratio = slopes.1 / slopes.0;
        out.driver = driver;
        out.slope = slopes.0;
        out.two = Some(slopes);
        out.possible = vec![driver];
        out.route = driver.route;
        out.cause = if ratio < TOKEN_KEYED_BELOW {
            Cause::TokenKeyed
        } else if ratio > PER_REQUEST_ABOVE {
            Cause::PerRequest
        } else {
            Cause::Mixed
        };
    }
    if let Some(route) = out.route.filter(|route| route.has_requests()) {
        let of = |what| {
            curve.total(
                Driver {
                    route: Some(route),
                    what,
                },
                from,
                to,
            )
        };
        let (new, repeat) = (of(What::New), of(What::Repeat));
        let known = routes.get(route);
        let few =
            matches!(out.cause, Cause::TokenKeyed | Cause::Mixed) && new.min(repeat) < LEAST_EVENTS;
        if few || known.uncertain as f64 > UNCERTAIN * known.requests.max(1) as f64 {
            out.cause = Cause::Indeterminate;
        }
    }
    Some(out)
}

/// All that may explain growth by itself.
pub fn candidates(curve: &Curve, bytes: bool) -> Vec<Driver> {
    let mut out = vec![Driver::SECONDS];
    for what in [What::First, What::Tokens, What::All] {
        out.push(Driver::anywhere(what));
    }
    for route in curve.routes().filter(|route| route.has_requests()) {
        for what in [What::New, What::Tokens, What::Anonymous, What::All] {
            out.push(Driver {
                route: Some(route),
                what,
            });
        }
        if bytes {
            out.push(Driver {
                route: Some(route),
                what: What::Body,
            });
        }
    }
    out
}

impl Steps<'_> {
    fn events(&self, driver: Driver) -> Vec<f64> {
        self.curve.events(driver, self.from, self.to)
    }

    fn fit(&self, driver: Driver) -> Option<Fit> {
        let x = self.events(driver);
        let (slopes, log) = self.explained_by(&[&x])?;
        let slope = *slopes.first()?;
        let prior = match driver.what {
            What::Seconds => TIMER,
            _ if self.about.bytes => 0.0,
            _ => prior(slope),
        };
        let log = log + prior + self.witnessed(driver);
        (slope > 0.0).then_some(Fit { driver, slope, log })
    }

    /// Logarithm of the likelihood of what was seen at work in the code that fills the gauge, if `driver` is
    /// what fills it: its own requests, or in [`ELSEWHERE`] of the cases any.
    fn witnessed(&self, driver: Driver) -> f64 {
        let seen = self.about.seen;
        let total: f64 = seen.values().sum();
        if total <= 0.0 {
            return 0.0;
        }
        let events = |driver| self.events(driver).iter().sum::<f64>();
        let part = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let all = events(Driver::anywhere(What::All));
        let own = match driver.route {
            None => events(driver),
            Some(_) => 1.0,
        };
        let log: f64 = seen
            .iter()
            .map(|(route, count)| {
                let on = |what| {
                    events(Driver {
                        route: Some(*route),
                        what,
                    })
                };
                let here = match (driver.what, driver.route) {
                    (What::Seconds, _) => 0.0,
                    (what, None) => part(on(what), own),
                    (_, Some(only)) => f64::from(u8::from(only == *route)),
                };
                let any = part(on(What::All), all);
                count
                    * ((1.0 - ELSEWHERE) * here + ELSEWHERE * any)
                        .max(UNHEARD)
                        .ln()
            })
            .sum();
        // those met at one time have much in common
        log * (MOST_WITNESSES / total).min(1.0)
    }

    /// Slopes of one or two terms and the logarithm of the likelihood, with the noise that suits them best.
    fn explained_by(&self, terms: &[&[f64]]) -> Option<(Vec<f64>, f64)> {
        let (noises, temper) = if self.about.fine {
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

/// New and repeated tokens of one route together, each with its own slope: the best such route.
fn both_classes(steps: &Steps, curve: &Curve) -> Option<(Driver, (f64, f64), f64)> {
    let of = |route, what| Driver {
        route: Some(route),
        what,
    };
    curve
        .routes()
        .filter(|route| route.has_requests())
        .filter_map(|route| {
            let new = steps.events(of(route, What::New));
            let repeat = steps.events(of(route, What::Repeat));
            let (slopes, log) = steps.explained_by(&[&new, &repeat])?;
            let slopes = (*slopes.first()?, *slopes.get(1)?);
            let parts = (
                slopes.0 * new.iter().sum::<f64>(),
                slopes.1 * repeat.iter().sum::<f64>(),
            );
            let least = PART * (parts.0 + parts.1);
            let both = slopes.0 > 0.0 && slopes.1 > 0.0 && parts.0 >= least && parts.1 >= least;
            let driver = of(route, What::New);
            both.then(|| (driver, slopes, log + steps.witnessed(driver)))
        })
        .max_by(|a, b| a.2.total_cmp(&b.2))
}

/// What a driver means.
pub fn cause_of(driver: Driver) -> Cause {
    match driver.what {
        What::New | What::First => Cause::TokenKeyed,
        What::Repeat | What::Tokens | What::Anonymous | What::All | What::Body => Cause::PerRequest,
        What::Seconds => Cause::Background,
    }
}

/// Its route; all of them together are `other`.
fn route_of(driver: Driver) -> RouteId {
    match driver.what {
        What::Seconds => RouteId::BACKGROUND,
        _ => driver.route.unwrap_or(RouteId::OTHER),
    }
}

fn agreed<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}
