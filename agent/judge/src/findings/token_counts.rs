//! Whether the number of token strings in memory grows with the new tokens of a route. Pure.
//!
//! A route that keeps its tokens has a leak or a cache. If the cache is full, each new token replaces an older one, which
//! nobody has seen if it is from before the observation. But then the number of such strings stays the same. Garbage is
//! among them, so the smallest counts are compared: they follow a collection.

use crate::attribution::keys::RouteId;
use crate::attribution::routes::Routes;
use crate::events::{Nanos, Residency};

/// Minimum number of counts, of seconds between the first and the last one, and of new tokens meanwhile.
const LEAST_COUNTS: usize = 4;
const LEAST_SECONDS: f64 = 20.0;
const LEAST_NEW: u64 = 50;
/// Minimum growth per new token that is kept, and maximum if it is not.
const GROWS: f64 = 0.5;
const FLAT: f64 = 0.2;
/// Maximum number of counts. Beyond that every second one is dropped.
const MOST: usize = 128;

/// The counts of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenCounts {
    /// What the counted strings begin with.
    beginning: u64,
    counts: Vec<Count>,
    /// Searches without a count.
    uncounted: usize,
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
    /// By so many strings.
    Grows {
        /// More strings than at the beginning.
        strings: u64,
        /// New tokens in that time.
        new: u64,
    },
    /// It stays the same.
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
        let Some(strings) = residency.strings else {
            self.uncounted += 1;
            return;
        };
        if strings.beginning != self.beginning {
            self.counts.clear();
            self.beginning = strings.beginning;
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
            strings: strings.count,
            new: new
                .filter(|(id, new)| id.has_requests() && *new > 0)
                .collect(),
        });
    }

    /// Whether the strings cannot be counted, because tokens have no common beginning.
    pub(super) fn are_impossible(&self) -> bool {
        self.counts.is_empty() && self.uncounted >= LEAST_COUNTS
    }

    /// The trend in the later half of the observation, if that is long enough, else in all of it.
    pub(super) fn trend(&self, route: RouteId) -> Trend {
        let (Some(first), Some(last)) = (self.counts.first(), self.counts.last()) else {
            return Trend::Unclear;
        };
        let half = last.at.since(first.at) / 2.0;
        let later = self
            .counts
            .partition_point(|count| last.at.since(count.at) > half);
        match trend(&self.counts[later..], route) {
            Trend::Unclear => trend(&self.counts, route),
            clear => clear,
        }
    }
}

fn trend(counts: &[Count], route: RouteId) -> Trend {
    let (Some(first), Some(last)) = (counts.first(), counts.last()) else {
        return Trend::Unclear;
    };
    if counts.len() < LEAST_COUNTS || last.at.since(first.at) < LEAST_SECONDS {
        return Trend::Unclear;
    }
    let third = (counts.len() / 3).max(1);
    let least = |counts: &[Count]| {
        let least = counts.iter().min_by_key(|count| count.strings)?;
        Some((least.strings, least.new_of(route)))
    };
    let ends = (
        least(&counts[..third]),
        least(&counts[counts.len() - third..]),
    );
    let (Some((before, new_before)), Some((after, new_after))) = ends else {
        return Trend::Unclear;
    };
    let new = new_after.saturating_sub(new_before);
    let strings = after.saturating_sub(before);
    let each = strings as f64 / new.max(1) as f64;
    if new < LEAST_NEW {
        Trend::Unclear
    } else if each >= GROWS {
        Trend::Grows { strings, new }
    } else if each <= FLAT {
        Trend::Flat { new }
    } else {
        Trend::Unclear
    }
}

impl Count {
    fn new_of(&self, route: RouteId) -> u64 {
        let found = self.new.iter().find(|(id, _)| *id == route);
        found.map_or(0, |(_, new)| *new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Attribution;
    use crate::events::{Binding, Fingerprint, Request, RequestId, TokenStrings};

    /// A route with 40 new tokens per second, and the strings that are counted every 5 s.
    fn trend_of(seconds: u64, strings: impl Fn(u64) -> u64) -> Trend {
        let mut attribution = Attribution::new(10.0);
        let mut counts = TokenCounts::default();
        let mut token = 0;
        for second in 1..=seconds {
            for _ in 0..40 {
                token += 1;
                attribution.request(&Request {
                    id: RequestId(token),
                    start: Nanos(1),
                    end: Nanos(2),
                    head: "GET /data".to_owned(),
                    token: Some(Fingerprint(token)),
                    status: Some(200),
                    binding: Binding::Exact,
                    body_bytes: 0,
                    token_uncertain: false,
                    path_cut: false,
                    again: false,
                });
            }
            if second % 5 == 0 {
                let residency = Residency {
                    at: Nanos(second * 1_000_000_000),
                    strings: Some(TokenStrings {
                        beginning: 7,
                        count: strings(second),
                    }),
                    ..Residency::default()
                };
                counts.observe(&residency, &attribution.routes);
            }
        }
        let route = attribution.routes.iter().next().map(|(id, _)| id);
        counts.trend(route.expect("a route"))
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

    #[test]
    fn old_counts_are_thinned_out() {
        let grows = trend_of(5_000, |second| 40 * second);
        assert!(matches!(grows, Trend::Grows { .. }), "{grows:?}");
    }
}
