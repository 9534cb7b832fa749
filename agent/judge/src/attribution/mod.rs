//! Attribution: which route, token class and code location a live block belongs to. Pure and bounded.

pub mod keys;
pub mod requests;
pub mod routes;
pub mod segments;
pub mod sites;
pub mod tokens;
pub mod tree;

use crate::events::{Binding, LiveGroup, Losses, Nanos, Request};

use self::keys::{Class, RouteId};
use self::requests::{Entry, Requests};
use self::routes::Routes;
use self::sites::Sites;
use self::tokens::Tokens;

/// Blocks whose request ended this long ago without its record having come are given up, seconds.
/// Long, because a stream or a long poll looks the same until it ends.
const IN_FLIGHT_SECONDS: f64 = 300.0;

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner {
    /// Known.
    Known(Origin),
    /// Its request has not ended, as far as anybody knows.
    InFlight,
}

/// The request side of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Origin {
    /// Its route, [`RouteId::BACKGROUND`] or [`RouteId::UNATTRIBUTED`].
    pub route: RouteId,
    /// Token class of its request.
    pub class: Class,
    /// From when on it counts as mature.
    pub mature_at: Nanos,
}

/// Routes, tokens, requests and sites of one target.
pub struct Attribution {
    /// Route templates and what is known of each route.
    pub routes: Routes,
    /// Token classes.
    pub tokens: Tokens,
    /// Requests that live blocks may name.
    pub requests: Requests,
    /// Call stacks.
    pub sites: Sites,
    maturity_floor: f64,
    records_lost: bool,
    /// Since when blocks are seen.
    since: Nanos,
}

impl Attribution {
    /// Nothing seen yet. `maturity_floor` is the least age, in seconds, that makes a block mature.
    pub fn new(maturity_floor: f64) -> Self {
        Self {
            routes: Routes::new(maturity_floor),
            tokens: Tokens::new(),
            requests: Requests::new(),
            sites: Sites::new(),
            maturity_floor,
            records_lost: false,
            since: Nanos(0),
        }
    }

    /// Takes a request's record. Gives its route and token class when it is the first of this request.
    pub fn request(&mut self, request: &Request) -> Option<(RouteId, Class)> {
        // when the first record was lost, the second says as much
        if request.again
            && let Some(entry) = self.requests.get(request.id)
        {
            let maturity = self
                .routes
                .maturity_seconds(self.routes.resolve(entry.route));
            let at = request.end.plus(maturity);
            self.requests.prolong(request.id, at);
            return None;
        }
        let missed = request.token.is_none() && request.token_uncertain;
        let route = self.routes.route(request);
        let class = self.tokens.classify(request.token, route);
        self.routes.count(route, request, class, missed);
        let entry = Entry {
            route,
            class,
            exposed: !missed && request.start >= self.since,
            mature_at: request.end.plus(self.routes.maturity_seconds(route)),
        };
        self.requests.insert(request.id, entry);
        Some((route, class))
    }

    /// Another address space: its caches are empty, so every token is new to it.
    pub fn forget(&mut self) {
        self.tokens.forget();
    }

    /// Blocks are seen from now on: requests that began before have more than are seen.
    pub fn begin(&mut self, at: Nanos) {
        self.since = at;
        self.requests.begin();
    }

    /// Takes the losses: only when records were lost may an unknown request be anything but in flight.
    pub fn losses(&mut self, losses: &Losses) {
        self.records_lost = losses.requests_lost > 0 || losses.ring_full > 0;
    }

    /// Whose `group` is, at time `now`.
    pub fn owner(&self, group: &LiveGroup, now: Nanos) -> Owner {
        let by_birth = group.born.plus(self.maturity_floor);
        let Some(id) = group.request.filter(|_| group.binding != Binding::None) else {
            // births are rounded down to the second: a second more makes the age certain
            return Owner::Known(Origin {
                route: RouteId::BACKGROUND,
                class: Class::None,
                mature_at: by_birth.plus(1.0),
            });
        };
        if let Some(entry) = self.requests.get(id) {
            return Owner::Known(Origin {
                route: self.routes.resolve(entry.route),
                class: entry.class,
                // a block born after its request's end (a task it left behind) matures by its birth
                mature_at: entry.mature_at.max(by_birth),
            });
        }
        let given_up = self.records_lost || self.requests.dropped() > 0;
        if given_up && now.since(group.born) > IN_FLIGHT_SECONDS {
            return Owner::Known(Origin {
                route: RouteId::UNATTRIBUTED,
                class: Class::None,
                mature_at: group.born.plus(IN_FLIGHT_SECONDS + self.maturity_floor),
            });
        }
        Owner::InFlight
    }

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.routes.state_bytes()
            + self.tokens.state_bytes()
            + self.requests.state_bytes()
            + self.sites.state_bytes()
    }
}
