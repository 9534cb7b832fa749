//! Whether the number of token strings in memory grows with the new tokens of a route. Pure.
//!
//! A route that keeps its tokens has a leak or a cache. If the cache is full, each new token replaces an older one, which
//! nobody has seen if it is from before the observation. But then the number of such strings does not grow with the new
//! tokens. Garbage is among them, so the smallest counts of some are compared.

use crate::attribution::keys::RouteId;
use crate::attribution::routes::Routes;
use crate::events::{Nanos, Residency, TokenStrings};

/// Minimum number of counts, and of seconds between the first and the last one.
const LEAST_COUNTS: usize = 4;
const LEAST_SECONDS: f64 = 20.0;
/// Minimum number of new tokens meanwhile, and as a part of the strings: fewer are lost among the garbage of others.
const LEAST_NEW: u64 = 50;
const LEAST_PART: u64 = 20;
/// Minimum growth per new token that is kept, and maximum if it is not.
const GROWS: f64 = 0.5;
const FLAT: f64 = 0.2;
/// A fall by more than this part is a collection of older garbage.
const FALLS: f64 = 0.1;
/// Maximum number of counts. Beyond that every second one is dropped.
const MOST: usize = 128;

/// The counts of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenCounts {
    /// What the counted strings begin with.
    beginning: u64,
    counts: Vec<Count>,
    /// Searches whose tokens had no common beginning.
    unlike: usize,
}

/// The result of a search.
#[derive(Clone, Debug)]
struct Count {
    at: Nanos,
    strings: u64,
    /// New tokens so far, by route.
    new: Vec<(RouteId, u64)>,
}

/// How the number of strings depends on the number of new tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trend {
    /// It grows with them.
    Grows {
        /// By so many strings.
        strings: u64,
        /// New tokens in that time.
        new: u64,
    },
    /// It does not grow with them.
    Flat {
        /// New tokens in that time.
        new: u64,
    },
    /// Neither, or too few counts.
    Unclear,
}

impl TokenCounts {
    /// Takes the result of a search.
    pub(super) fn observe(&mut self, residency: &Residency, routes: &Routes) {
        let (beginning, strings) = match residency.strings {
            TokenStrings::Unknown => return,
            TokenStrings::NotAlike => {
                self.unlike += 1;
                return;
            }
            TokenStrings::Counted { beginning, count } => (beginning, count),
        };
        if beginning != self.beginning {
            self.counts.clear();
            self.beginning = beginning;
        }
        if self.counts.len() >= MOST {
            let mut is_kept = false;
            self.counts.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        let new = routes
            .iter()
            .map(|(id, route)| (id, route.classes[0] + route.classes[1]));
        self.counts.push(Count {
            at: residency.at,
            strings,
            new: new
                .filter(|(id, new)| id.has_requests() && *new > 0)
                .collect(),
        });
    }

    /// Whether the strings cannot be counted, because tokens have no common beginning.
    pub(super) fn are_impossible(&self) -> bool {
        self.counts.is_empty() && self.unlike >= LEAST_COUNTS
    }

    /// The trend in the later half of the observation, if that is long enough, else in all of it.
    pub(super) fn trend(&self, route: RouteId, routes: &Routes) -> Trend {
        let (Some(first), Some(last)) = (self.counts.first(), self.counts.last()) else {
            return Trend::Unclear;
        };
        let half = last.at.since(first.at) / 2.0;
        let later = self
            .counts
            .partition_point(|count| last.at.since(count.at) > half);
        let new_of = |count: &Count| -> u64 {
            let of_route = count
                .new
                .iter()
                .filter(|(id, _)| routes.resolve(*id) == route);
            of_route.map(|(_, new)| new).sum()
        };
        trend(&self.counts[later..], &new_of)
            .or_else(|| trend(&self.counts, &new_of))
            .unwrap_or(Trend::Unclear)
    }
}

/// `None`: too little for one.
fn trend(counts: &[Count], new_of: &impl Fn(&Count) -> u64) -> Option<Trend> {
    let (first, last) = (counts.first()?, counts.last()?);
    if counts.len() < LEAST_COUNTS || last.at.since(first.at) < LEAST_SECONDS {
        return None;
    }
    let third = (counts.len() / 3).max(1);
    let least = |counts: &[Count]| {
        let least = counts.iter().min_by_key(|count| count.strings)?;
        Some((least.strings, new_of(least)))
    };
    let (before, new_before) = least(&counts[..third])?;
    let (after, new_after) = least(&counts[counts.len() - third..])?;
    let new = new_after.saturating_sub(new_before);
    if new < LEAST_NEW.max(before / LEAST_PART) {
        return None;
    }
    let strings = after as f64 - before as f64;
    let each = strings / new as f64;
    Some(if each >= GROWS {
        Trend::Grows {
            strings: after - before,
            new,
        }
    } else if each <= FLAT && -strings <= FALLS * before as f64 {
        Trend::Flat { new }
    } else {
        Trend::Unclear
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Attribution;
    use crate::events::{Binding, Fingerprint, Request, RequestId};

    fn request(token: u64, head: String) -> Request {
        Request {
            id: RequestId(token),
            start: Nanos(1),
            end: Nanos(2),
            head,
            token: Some(Fingerprint(token)),
            status: Some(200),
            binding: Binding::Exact,
            body_bytes: 0,
            token_uncertain: false,
            path_cut: false,
            again: false,
        }
    }

    /// The result of a search at a time.
    fn counted(second: u64, count: u64) -> Residency {
        Residency {
            at: Nanos(second * 1_000_000_000),
            strings: TokenStrings::Counted {
                beginning: 7,
                count,
            },
            ..Residency::default()
        }
    }

    /// A route with 40 new tokens per second, and the strings that are counted every 5 s.
    fn trend_of(seconds: u64, strings: impl Fn(u64) -> u64) -> Trend {
        let mut attribution = Attribution::new(10.0);
        let mut counts = TokenCounts::default();
        let mut token = 0;
        for second in 1..=seconds {
            for _ in 0..40 {
                token += 1;
                attribution.request(&request(token, "GET /data".to_owned()));
            }
            if second % 5 == 0 {
                counts.observe(&counted(second, strings(second)), &attribution.routes);
            }
        }
        let route = attribution.routes.iter().next().map(|(id, _)| id);
        counts.trend(route.expect("a route"), &attribution.routes)
    }

    #[test]
    fn kept_tokens_grow_and_replaced_ones_do_not() {
        let grows = trend_of(60, |second| 3_000 + 40 * second);
        assert!(matches!(grows, Trend::Grows { .. }), "{grows:?}");
        let flat = trend_of(60, |second| 5_000 + second * 7 % 30);
        assert!(matches!(flat, Trend::Flat { .. }), "{flat:?}");
        assert_eq!(trend_of(15, |second| 40 * second), Trend::Unclear);
    }

    /// A collection every 15 s.
    #[test]
    fn garbage_is_no_growth() {
        let garbage = |second: u64| 200 * (second % 15);
        let flat = trend_of(120, |second| 5_000 + garbage(second));
        assert!(matches!(flat, Trend::Flat { .. }), "{flat:?}");
        let grows = trend_of(120, |second| 40 * second + garbage(second));
        assert!(matches!(grows, Trend::Grows { .. }), "{grows:?}");
    }

    /// The later half decides.
    #[test]
    fn a_cache_that_has_filled_is_flat() {
        let flat = trend_of(90, |second| 40 * second.min(40));
        assert!(matches!(flat, Trend::Flat { .. }), "{flat:?}");
    }

    /// What was garbage at the beginning is collected.
    #[test]
    fn a_fall_says_nothing() {
        let fall = |second: u64| if second < 50 { 9_000 } else { 1_000 };
        let unclear = trend_of(60, |second| fall(second) + 40 * second);
        assert_eq!(unclear, Trend::Unclear);
    }

    /// A part of many tokens is lost among their garbage.
    #[test]
    fn few_new_tokens_say_nothing() {
        assert_eq!(trend_of(60, |second| 100_000 + 40 * second), Trend::Unclear);
    }

    /// A word of letters.
    fn word(number: u64) -> String {
        let letter = |number: u64| char::from(b'a' + (number % 26) as u8);
        format!("some{}{}", letter(number / 26), letter(number))
    }

    /// Routes that are merged later count as one.
    #[test]
    fn merged_routes_are_one() {
        let mut attribution = Attribution::new(10.0);
        let mut counts = TokenCounts::default();
        let mut token = 0;
        for second in 1..=60_u64 {
            for _ in 0..40 {
                token += 1;
                attribution.request(&request(token, format!("GET /users/{}", word(token / 40))));
            }
            if second % 5 == 0 {
                counts.observe(&counted(second, token), &attribution.routes);
            }
        }
        let routes = &attribution.routes;
        let busiest = routes.iter().max_by_key(|(_, route)| route.requests);
        let (route, all) = busiest.expect("a route");
        assert!(all.requests > 2_000, "{}: {}", all.name, all.requests);
        let grows = counts.trend(route, routes);
        assert!(matches!(grows, Trend::Grows { .. }), "{grows:?}");
    }

    #[test]
    fn old_counts_are_thinned_out() {
        let grows = trend_of(2_000, |second| 40 * second);
        assert!(matches!(grows, Trend::Grows { .. }), "{grows:?}");
    }
}
