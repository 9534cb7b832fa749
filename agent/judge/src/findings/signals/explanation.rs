//! Which route and token class makes a signal grow: regression of its growth on the requests between its
//! levels.
//!
//! Each explanatory variable is fitted with one slope. The residuals follow a local level model: a random
//! walk plus reading errors, with the best of several variance ratios. A variable is excluded if its
//! log-likelihood is more than [`DECISIVE`] below the best one. Route and cause are reported if all
//! remaining variables agree on them.

use crate::attribution::keys::RouteId;
use crate::report::Cause;

use super::curve::{Curve, EventKind, Variable};
use super::regression::{Context, Fit, Regression};
use crate::findings::options::{PER_REQUEST_ABOVE, TOKEN_KEYED_BELOW};

/// Log-likelihood ratio above which one explanation excludes another.
pub const DECISIVE: f64 = 5.0;
/// Log-likelihood ratio above which a model with two slopes leaves the cause of the model with one slope
/// undecided.
const DOUBTFUL: f64 = 3.0;
/// Minimum intervals with traced requests for a regression.
const LEAST_STEPS: usize = 3;
/// Seconds after the attach during which known tokens look new. These intervals are left out if enough
/// others exist.
const LEARNING_SECONDS: f64 = 5.0;
/// Minimum events of each of two classes to distinguish them.
const LEAST_EVENTS: f64 = 20.0;
/// Minimum part of the growth that each of two terms explains.
const PART: f64 = 0.1;
/// Maximum part of a route's credentials that may have been missed.
const UNCERTAIN: f64 = 0.2;

/// The explanation of a signal's growth.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The best explanatory variable.
    pub variable: Variable,
    /// Growth per event.
    pub slope: f64,
    /// Growth per request with a new and with a repeated token, if both have a slope.
    pub two: Option<(f64, f64)>,
    /// Variables that are not excluded, including the best one.
    pub possible: Vec<Variable>,
    /// The cause that they agree on.
    pub cause: Cause,
    /// The route that they agree on. [`RouteId::BACKGROUND`]: without requests. `None`: undecided.
    pub route: Option<RouteId>,
}

/// Explains the growth of `curve` since point `from`.
pub fn explain(curve: &Curve, from: usize, about: Context) -> Option<Explained> {
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
    // The later half may be decisive, because token classes are known better by then.
    let half = from + (last - from) / 2;
    let late = (last - half >= 2 * LEAST_STEPS)
        .then(|| over(curve, half, about))
        .flatten();
    Some(
        late.filter(|late| late.cause != Cause::Indeterminate && late.route.is_some())
            .unwrap_or(whole),
    )
}

/// Minimum length samples for an explanation.
const LEAST_SAMPLES: usize = 100;

/// The explanation from length samples if it is decided, else the one from censuses.
pub fn prefer_length_samples(
    censuses: Option<Explained>,
    length_samples: &Curve,
    about: Context,
) -> Option<Explained> {
    let about = Context {
        length_samples: true,
        ..about
    };
    let decided = |one: &Explained| one.cause != Cause::Indeterminate && one.route.is_some();
    let from = length_samples.len().saturating_sub(1);
    let grown = length_samples.len() > LEAST_SAMPLES
        && length_samples.value(from) - length_samples.value(0) >= LEAST_EVENTS;
    let samples = grown.then(|| over(length_samples, 0, about)).flatten();
    match (censuses, samples) {
        (_, Some(samples)) if decided(&samples) => Some(samples),
        (censuses, _) => censuses,
    }
}

fn over(curve: &Curve, from: usize, about: Context) -> Option<Explained> {
    let Context { bytes, routes, .. } = about;
    let to = curve.len().checked_sub(1)?;
    if to < from + LEAST_STEPS {
        return None;
    }
    let steps = Regression::new(curve, from, about)?;
    if steps.len() < LEAST_STEPS {
        return None;
    }
    let mut fits: Vec<Fit> = candidates(curve, bytes)
        .into_iter()
        .filter_map(|variable| steps.fit(variable))
        .collect();
    fits.sort_by(|a, b| b.log.total_cmp(&a.log).then(a.variable.cmp(&b.variable)));
    // A variable over all routes counts only if it excludes every single route and time.
    let general =
        |fit: &Fit| fit.variable.route.is_none() && fit.variable.what != EventKind::Seconds;
    let special = fits.iter().find(|fit| !general(fit))?;
    let best = match fits.first() {
        Some(first) if general(first) && first.log - special.log >= DECISIVE => first,
        _ => special,
    };
    let possible: Vec<Variable> = fits
        .iter()
        .filter(|fit| (general(fit) == general(best)) && best.log - fit.log < DECISIVE)
        .map(|fit| fit.variable)
        .collect();
    let cause = agreed(possible.iter().map(|variable| cause_of(*variable)));
    let mut out = Explained {
        variable: best.variable,
        slope: best.slope,
        two: None,
        cause: cause.unwrap_or(Cause::Indeterminate),
        route: agreed(possible.iter().map(|variable| route_of(*variable))),
        possible,
    };
    let both = both_classes(&steps, curve);
    if both
        .as_ref()
        .is_some_and(|both| both.2 - best.log >= DOUBTFUL)
    {
        out.cause = Cause::Indeterminate;
    }
    if let Some((variable, slopes, log)) = both
        && log - best.log >= DECISIVE
    {
        let ratio = slopes.1 / slopes.0;
        out.variable = variable;
        out.slope = slopes.0;
        out.two = Some(slopes);
        out.possible = vec![variable];
        out.route = variable.route;
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
            let events = steps.events(Variable {
                route: Some(route),
                what,
            });
            events.iter().sum::<f64>()
        };
        let (new, repeat) = (of(EventKind::New), of(EventKind::Repeat));
        let known = routes.get(route);
        let few =
            matches!(out.cause, Cause::TokenKeyed | Cause::Mixed) && new.min(repeat) < LEAST_EVENTS;
        if few || known.uncertain as f64 > UNCERTAIN * known.requests.max(1) as f64 {
            out.cause = Cause::Indeterminate;
        }
    }
    Some(out)
}

/// All explanatory variables.
pub fn candidates(curve: &Curve, bytes: bool) -> Vec<Variable> {
    let mut out = vec![Variable::SECONDS];
    for what in [EventKind::First, EventKind::Tokens, EventKind::All] {
        out.push(Variable::anywhere(what));
    }
    for route in curve.routes().filter(|route| route.has_requests()) {
        for what in [
            EventKind::New,
            EventKind::Tokens,
            EventKind::Anonymous,
            EventKind::All,
        ] {
            out.push(Variable {
                route: Some(route),
                what,
            });
        }
        if bytes {
            out.push(Variable {
                route: Some(route),
                what: EventKind::Body,
            });
        }
    }
    out
}

/// The best model with two slopes: new and repeated tokens of one route.
fn both_classes(steps: &Regression, curve: &Curve) -> Option<(Variable, (f64, f64), f64)> {
    let of = |route, what| Variable {
        route: Some(route),
        what,
    };
    curve
        .routes()
        .filter(|route| route.has_requests())
        .filter_map(|route| {
            let new = steps.events(of(route, EventKind::New));
            let repeat = steps.events(of(route, EventKind::Repeat));
            let (slopes, log) = steps.explained_by(&[&new, &repeat])?;
            let slopes = (*slopes.first()?, *slopes.get(1)?);
            let parts = (
                slopes.0 * new.iter().sum::<f64>(),
                slopes.1 * repeat.iter().sum::<f64>(),
            );
            let least = PART * (parts.0 + parts.1);
            let both = slopes.0 > 0.0 && slopes.1 > 0.0 && parts.0 >= least && parts.1 >= least;
            let variable = of(route, EventKind::New);
            both.then(|| (variable, slopes, log + steps.stack_log_likelihood(variable)))
        })
        .max_by(|a, b| a.2.total_cmp(&b.2))
}

/// The cause that a variable implies.
pub fn cause_of(variable: Variable) -> Cause {
    match variable.what {
        EventKind::New | EventKind::First => Cause::TokenKeyed,
        EventKind::Repeat
        | EventKind::Tokens
        | EventKind::Anonymous
        | EventKind::All
        | EventKind::Body => Cause::PerRequest,
        EventKind::Seconds => Cause::Background,
    }
}

/// Its route. All routes together are `other`.
fn route_of(variable: Variable) -> RouteId {
    match variable.what {
        EventKind::Seconds => RouteId::BACKGROUND,
        _ => variable.route.unwrap_or(RouteId::OTHER),
    }
}

fn agreed<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}
