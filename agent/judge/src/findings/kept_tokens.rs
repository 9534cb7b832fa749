//! A suspicion from tokens that stay in memory, for runtimes whose heap is not read. Pure.
//!
//! There growth of the process is no evidence: it may be garbage. But if nearly all tokens of one route are in memory, at
//! any age, and nearly none of the others, then the collector has collected, and the route keeps its tokens. A cache that
//! is full does so too, for longer than the observation if it is large; then the number of token strings in memory does
//! not grow ([`super::token_counts`]). A cache that is not full yet grows like a leak, so this is a suspicion and is never
//! confirmed.

use crate::events::{Binding, Residency};
use crate::report::{Basis, Cause, Finding, FindingState};

use super::inputs::Inputs;
use super::judge::Judge;
use super::places::{blank, unknown_site};
use super::resident_routes::{Keeper, keeper};
use super::token_counts::Trend;
use super::units::{bytes, number};

/// Minimum resident part of the tokens of the route, and maximum of the others.
const KEPT: f64 = 0.95;
const GONE: f64 = 0.3;
/// Minimum rise of the memory of the process, bytes.
const LEAST_GAIN: u64 = 512 << 10;
/// Without an object of its own nobody knows how much a token keeps.
const CONFIDENCE: f64 = 0.5;

/// A route that keeps its tokens.
struct Kept {
    keeper: Keeper,
    /// How their number grows.
    counted: String,
    /// Bytes by which the process grew.
    gained: u64,
}

impl Judge {
    /// Notes since when tokens of one route stay in memory. Called after each search.
    pub fn meet_kept_tokens(&mut self, residency: &Residency, inputs: Inputs) {
        self.token_counts
            .observe(residency, &inputs.attribution.routes);
        if self.keeps_tokens(inputs).is_some() {
            self.kept_since.get_or_insert(inputs.now);
        } else {
            self.kept_since = None;
        }
    }

    fn keeps_tokens(&self, inputs: Inputs) -> Option<Kept> {
        if !inputs.garbage {
            return None;
        }
        let keeper = keeper(self.residents.sample(), inputs.attribution)?;
        let gained = self.ledger(inputs, &[])?.gained_bytes;
        let is_clear = keeper.kept >= KEPT && keeper.others <= GONE;
        let counted = match self.trend(&keeper, inputs) {
            Trend::Grows { strings, new } => format!(
                "while {} new tokens came, the strings in memory that begin like tokens rose by {}",
                number(new as f64),
                number(strings as f64)
            ),
            Trend::Unclear if self.token_counts.are_impossible() => {
                "the strings in memory that are like tokens cannot be counted, because tokens have no common beginning"
                    .to_owned()
            }
            Trend::Unclear | Trend::Flat { .. } => return None,
        };
        (is_clear && gained >= LEAST_GAIN).then_some(Kept {
            keeper,
            counted,
            gained,
        })
    }

    /// If a route keeps its tokens while their number stays the same: a full cache.
    pub(super) fn replaces_tokens(&self, keeper: &Keeper, inputs: Inputs) -> Option<String> {
        match self.trend(keeper, inputs) {
            Trend::Flat { new } => Some(format!(
                "{} new tokens came, and the number of such strings in memory did not grow with them, as in a full cache",
                number(new as f64)
            )),
            _ => None,
        }
    }

    fn trend(&self, keeper: &Keeper, inputs: Inputs) -> Trend {
        let routes = &inputs.attribution.routes;
        self.token_counts.trend(keeper.route, routes)
    }

    /// The suspicion, if there is one.
    pub(super) fn kept_tokens(&self, inputs: Inputs) -> Option<Finding> {
        let since = self.kept_since?;
        let Kept {
            keeper,
            counted,
            gained,
        } = self.keeps_tokens(inputs)?;
        let route = inputs.attribution.routes.get(keeper.route);
        let new = (route.classes[0] + route.classes[1]).max(1);
        let seconds = inputs.now.since(inputs.start).max(1.0);
        Some(Finding {
            state: FindingState::Suspect,
            route: route.name.clone(),
            retained_bytes: gained,
            retained_bytes_per_new_token: gained as f64 / new as f64,
            new_tokens: new,
            growth_bytes_per_second: gained as f64 / seconds,
            confidence: CONFIDENCE,
            binding: Binding::Inferred,
            basis: Basis::Process,
            evidence: vec![
                keeper.said,
                counted,
                format!(
                    "the memory of the process grew by {} meanwhile; garbage is a part of it, so the bytes per token are \
                     an upper limit",
                    bytes(gained as f64)
                ),
                "not confirmed by tokens alone: a cache that is not full yet keeps them too"
                    .to_owned(),
            ],
            suspected_after_seconds: Some(since.since(inputs.start)),
            ..blank(Cause::TokenKeyed, unknown_site())
        })
    }
}
