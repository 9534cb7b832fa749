//! Which route and token class makes a gauge grow: regression of its growth on what came between its
//! levels.
//!
//! Every candidate explains the steps by one slope through zero. The logarithm of the likelihood ratio of
//! two of them is `n/2 ln(R_a / R_b)` with their sums of squared residuals `R`. What the best does not beat
//! by [`DECISIVE`] stays possible, and what all that is possible agree on is said: a route, a cause, or
//! neither.

use crate::attribution::routes::{RouteId, Routes};
use crate::report::Cause;

use super::curve::{Curve, Driver, What};
use crate::findings::options::{PER_REQUEST_ABOVE, TOKEN_KEYED_BELOW};

/// Logarithm of the likelihood ratio above which one explanation excludes another.
pub const DECISIVE: f64 = 5.0;
/// Steps that a regression needs.
const LEAST_STEPS: usize = 3;
/// After an attach tokens look new that the service knows: steps from that time are left out, if
/// enough others are there.
const LEARNING_SECONDS: f64 = 5.0;
/// Events of two classes that must have come before they are told apart.
const LEAST_EVENTS: f64 = 20.0;
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
    residual: f64,
}

/// The steps that are looked at.
struct Steps<'a> {
    curve: &'a Curve,
    from: usize,
    to: usize,
    growth: Vec<f64>,
    /// The noise of a step grows with its length.
    weights: Vec<f64>,
    /// Residuals below this mean nothing.
    floor: f64,
}

/// Explains the growth of `curve` since point `from`. `bytes`: its levels are bytes. `start`: seconds from
/// the beginning of the observation to `from`.
pub fn explain(curve: &Curve, from: usize, bytes: bool, start: f64, routes: &Routes) -> Option<Explained> {
    let last = curve.len().checked_sub(1)?;
    let known = (from..last)
        .find(|i| start + curve.seconds(from, *i) >= LEARNING_SECONDS)
        .unwrap_or(from);
    let from = if last >= known + LEAST_STEPS { known } else { from };
    let whole = over(curve, from, bytes, routes)?;
    if whole.cause != Cause::Indeterminate && whole.route.is_some() {
        return Some(whole);
    }
    // what was learnt slowly may be clear in the later half
    let half = from + (last - from) / 2;
    let late = (last - half >= 2 * LEAST_STEPS).then(|| over(curve, half, bytes, routes)).flatten();
    Some(late.filter(|late| late.cause != Cause::Indeterminate && late.route.is_some()).unwrap_or(whole))
}

fn over(curve: &Curve, from: usize, bytes: bool, routes: &Routes) -> Option<Explained> {
    let to = curve.len().checked_sub(1)?;
    if to < from + LEAST_STEPS {
        return None;
    }
    let growth = curve.growth(from, to);
    let seconds: Vec<f64> = (from..to).map(|i| curve.seconds(i, i + 1)).collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let typical = growth.iter().sum::<f64>() / growth.len() as f64;
    let least = (0.01 * typical).powi(2).max(if bytes { 0.0 } else { 1.0 });
    let steps = Steps {
        curve,
        from,
        to,
        weights: seconds.iter().map(|s| mean / s.max(0.1)).collect(),
        floor: least * growth.len() as f64,
        growth,
    };
    let mut fits: Vec<Fit> = candidates(curve, bytes).into_iter().filter_map(|driver| steps.fit(driver)).collect();
    fits.sort_by(|a, b| a.residual.total_cmp(&b.residual).then(a.driver.cmp(&b.driver)));
    let n = steps.growth.len() as f64;
    let against = |a: f64, b: f64| n / 2.0 * (a / b).ln();
    // what concerns all routes alike must be better than any one route, or time, to be thought of
    let general = |fit: &Fit| fit.driver.route.is_none() && fit.driver.what != What::Seconds;
    let best_of = fits.iter().find(|fit| !general(fit))?;
    let best = match fits.first() {
        Some(first) if general(first) && against(best_of.residual, first.residual) >= DECISIVE => first,
        _ => best_of,
    };
    let possible: Vec<Driver> = fits
        .iter()
        .filter(|fit| (general(fit) == general(best)) && against(fit.residual, best.residual) < DECISIVE)
        .map(|fit| fit.driver)
        .collect();
    let mut out = Explained {
        driver: best.driver,
        slope: best.slope,
        two: None,
        cause: agreed(possible.iter().map(|driver| cause_of(*driver))).unwrap_or(Cause::Indeterminate),
        route: agreed(possible.iter().map(|driver| route_of(*driver))),
        possible,
    };
    if let Some((driver, slopes, residual)) = both_classes(&steps, curve)
        && against(best.residual, residual) >= DECISIVE
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
        let of = |what| curve.total(Driver { route: Some(route), what }, from, to);
        let (new, repeat) = (of(What::New), of(What::Repeat));
        let known = routes.get(route);
        let few = matches!(out.cause, Cause::TokenKeyed | Cause::Mixed) && new.min(repeat) < LEAST_EVENTS;
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
            out.push(Driver { route: Some(route), what });
        }
        if bytes {
            out.push(Driver { route: Some(route), what: What::Body });
        }
    }
    out
}

impl Steps<'_> {
    fn events(&self, driver: Driver) -> Vec<f64> {
        self.curve.events(driver, self.from, self.to)
    }

    /// `sum of w a b`.
    fn product(&self, a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).zip(&self.weights).map(|((a, b), w)| w * a * b).sum()
    }

    fn fit(&self, driver: Driver) -> Option<Fit> {
        let x = self.events(driver);
        let xx = self.product(&x, &x);
        if xx <= 0.0 {
            return None;
        }
        let slope = (self.product(&x, &self.growth) / xx).max(0.0);
        let residual = self.residual(&[(slope, &x)]);
        (slope > 0.0).then_some(Fit { driver, slope, residual })
    }

    fn residual(&self, terms: &[(f64, &[f64])]) -> f64 {
        let left: Vec<f64> = self
            .growth
            .iter()
            .enumerate()
            .map(|(i, grown)| grown - terms.iter().map(|(slope, x)| slope * x[i]).sum::<f64>())
            .collect();
        self.product(&left, &left).max(self.floor)
    }
}

/// New and repeated tokens of one route together, each with its own slope: the best such route.
fn both_classes(steps: &Steps, curve: &Curve) -> Option<(Driver, (f64, f64), f64)> {
    curve
        .routes()
        .filter(|route| route.has_requests())
        .filter_map(|route| {
            let driver = Driver { route: Some(route), what: What::New };
            let new = steps.events(driver);
            let repeat = steps.events(Driver { route: Some(route), what: What::Repeat });
            let (aa, bb, ab) = (steps.product(&new, &new), steps.product(&repeat, &repeat), steps.product(&new, &repeat));
            let (ay, by) = (steps.product(&new, &steps.growth), steps.product(&repeat, &steps.growth));
            let det = aa * bb - ab * ab;
            if det <= 1e-6 * aa * bb {
                return None;
            }
            let slopes = ((ay * bb - by * ab) / det, (by * aa - ay * ab) / det);
            let parts = (slopes.0 * new.iter().sum::<f64>(), slopes.1 * repeat.iter().sum::<f64>());
            let least = PART * (parts.0 + parts.1);
            if slopes.0 <= 0.0 || slopes.1 <= 0.0 || parts.0 < least || parts.1 < least {
                return None;
            }
            let residual = steps.residual(&[(slopes.0, &new), (slopes.1, &repeat)]);
            Some((driver, slopes, residual))
        })
        .min_by(|a, b| a.2.total_cmp(&b.2))
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
