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
use super::fit::{Fit, Steps};
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
    let steps = Steps::new(curve, from, about)?;
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
