//! Which route keeps tokens: those that were used on it stay in memory, and others do not. Pure.
//!
//! This is evidence of its own for a cause and a route, in any runtime. It does not show that memory grows: a full cache
//! keeps tokens too. Garbage that is not collected yet, and copies in buffers, are as frequent on all routes.

use crate::attribution::Attribution;
use crate::attribution::keys::RouteId;
use crate::events::ResidentToken;

use super::units::number;

/// Minimum number of tokens that were used on a route, and of others.
const LEAST: u32 = 30;
/// Minimum resident part of the tokens of the route, and its minimum distance from that of the others.
const KEPT: f64 = 0.5;
const DISTANCE: f64 = 0.4;
/// Minimum distance of the next route, whose tokens were partly used on the first one.
const CLEAR: f64 = 0.1;

/// The route that keeps tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Keeper {
    /// Which.
    pub(super) route: RouteId,
    /// The evidence.
    pub(super) said: String,
    /// Resident part of the tokens that were used on it, and of the others.
    pub(super) kept: f64,
    pub(super) others: f64,
}

/// Tokens that were searched for, and those found.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    tokens: u32,
    resident: u32,
}

impl Part {
    fn add(&mut self, token: &ResidentToken) {
        self.tokens += 1;
        self.resident += u32::from(token.is_resident);
    }

    fn ratio(self) -> f64 {
        f64::from(self.resident) / f64::from(self.tokens.max(1))
    }
}

/// The route whose tokens stay in memory, if there is exactly one.
pub(super) fn keeper(sample: &[ResidentToken], attribution: &Attribution) -> Option<Keeper> {
    let parts = attribution.routes.iter().filter_map(|(id, _)| {
        let (mut used, mut others) = (Part::default(), Part::default());
        for token in sample {
            match attribution.token_routes.was_used(token.token, id) {
                Some(true) => used.add(token),
                Some(false) => others.add(token),
                None => {}
            }
        }
        let enough = id.has_requests() && used.tokens >= LEAST && others.tokens >= LEAST;
        enough.then_some((id, used, others))
    });
    let mut ranked: Vec<(f64, RouteId, Part, Part)> = parts
        .map(|(id, used, others)| (used.ratio() - others.ratio(), id, used, others))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (distance, route, used, others) = *ranked.first()?;
    let next = ranked.get(1).map_or(f64::NEG_INFINITY, |next| next.0);
    if used.ratio() < KEPT || distance < DISTANCE || distance - next < CLEAR {
        return None;
    }
    let name = &attribution.routes.get(route).name;
    let said = format!(
        "{} of {} tokens that were used on {name} are still in memory, but only {} of {} others",
        number(f64::from(used.resident)),
        number(f64::from(used.tokens)),
        number(f64::from(others.resident)),
        number(f64::from(others.tokens)),
    );
    Some(Keeper {
        route,
        said,
        kept: used.ratio(),
        others: others.ratio(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Binding, Fingerprint, Nanos, Request, RequestId};

    fn attribution(uses: &[(u64, &str)]) -> Attribution {
        let mut attribution = Attribution::new(10.0);
        for (index, (token, head)) in uses.iter().enumerate() {
            attribution.request(&Request {
                id: RequestId(index as u64 + 1),
                start: Nanos(1),
                end: Nanos(2),
                head: (*head).to_owned(),
                token: Some(Fingerprint(*token)),
                status: Some(200),
                binding: Binding::Exact,
                body_bytes: 0,
                token_uncertain: false,
                path_cut: false,
                again: false,
            });
        }
        attribution
    }

    fn sample(
        tokens: std::ops::Range<u64>,
        is_resident: impl Fn(u64) -> bool,
    ) -> Vec<ResidentToken> {
        tokens
            .map(|token| ResidentToken {
                token: Fingerprint(token),
                is_resident: is_resident(token),
            })
            .collect()
    }

    /// Tokens below 100 are used on data; every second one, and all others, on profile.
    fn uses() -> Vec<(u64, &'static str)> {
        let data = (0..100).map(|token| (token, "GET /api/data"));
        let profile = (0..200).filter(|token| token % 2 == 0 || *token >= 100);
        let profile = profile.map(|token| (token, "GET /api/profile"));
        data.chain(profile).collect()
    }

    #[test]
    fn the_route_whose_tokens_stay_keeps_them() {
        let attribution = attribution(&uses());
        let keeps = |is_resident: fn(u64) -> bool| {
            let keeper = keeper(&sample(0..200, is_resident), &attribution)?;
            Some((
                attribution.routes.get(keeper.route).name.clone(),
                keeper.said,
            ))
        };
        let (route, said) = keeps(|token| token < 100).expect("a keeper");
        assert_eq!(route, "GET /api/data");
        assert!(said.starts_with("100 of 100 tokens that were used on GET /api/data"));
        // A third of all is garbage.
        let (route, _) = keeps(|token| token < 100 || token % 3 == 0).expect("a keeper");
        assert_eq!(route, "GET /api/data");
        for nothing in [
            |_| true,
            |_| false,
            |token| token % 10 < 5,
            |token| token < 10,
        ] {
            assert_eq!(keeps(nothing), None);
        }
    }

    #[test]
    fn few_tokens_show_nothing() {
        let attribution = attribution(&uses());
        let few = sample(80..120, |token| token < 100);
        assert_eq!(keeper(&few, &attribution), None);
    }
}
