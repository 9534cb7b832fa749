//! Attribution: which route, token class and code location a live block belongs to. Pure and bounded.

pub mod keys;
pub mod methods;
pub mod refused;
pub mod requests;
pub mod routes;
pub mod segments;
pub mod sites;
pub mod token_routes;
pub mod tokens;
pub mod tree;

use crate::events::{Binding, LiveGroup, Losses, Nanos, Request, TokenClass};

use self::keys::{Class, RouteId};
use self::requests::{Entry, Requests};
use self::routes::Routes;
use self::sites::Sites;
use self::token_routes::TokenRoutes;
use self::tokens::Tokens;

/// Seconds after which blocks without a request record count as unattributed. The time is long because a
/// stream or a long poll has no record until it ends.
const IN_FLIGHT_SECONDS: f64 = 300.0;

/// The owner of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner {
    /// Known.
    Known(Origin),
    /// Its request has not ended, as far as is known.
    InFlight,
}

/// The route and class of a block, and when it matures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Origin {
    /// Its route, [`RouteId::BACKGROUND`] or [`RouteId::UNATTRIBUTED`].
    pub route: RouteId,
    /// Token class of its request.
    pub class: Class,
    /// When it becomes mature.
    pub mature_at: Nanos,
}

/// Routes, tokens, requests and sites of one target.
pub struct Attribution {
    /// Route templates, and statistics of each route.
    pub routes: Routes,
    /// Token classes.
    pub tokens: Tokens,
    /// The routes on which each of the latest tokens was used.
    pub token_routes: TokenRoutes,
    /// Requests that live blocks may refer to.
    pub requests: Requests,
    /// Call stacks.
    pub sites: Sites,
    maturity_floor: f64,
    records_lost: bool,
    /// When the observation of blocks began.
    since: Nanos,
}

impl Attribution {
    /// Nothing seen yet. `maturity_floor` is the least age, in seconds, that makes a block mature.
    pub fn new(maturity_floor: f64) -> Self {
        Self {
            routes: Routes::new(maturity_floor),
            tokens: Tokens::new(),
            token_routes: TokenRoutes::default(),
            requests: Requests::new(),
            sites: Sites::new(),
            maturity_floor,
            records_lost: false,
            since: Nanos(0),
        }
    }

    /// Takes a request record. Returns route and token class if it is the first record of this request.
    pub fn request(&mut self, request: &Request) -> Option<(RouteId, Class)> {
        // If the first record was lost, the second one takes its place.
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
        if let Some(token) = request.token {
            self.token_routes.used(token, route);
        }
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

    /// The address space was replaced: its caches are empty, so every token is new again.
    pub fn forget(&mut self) {
        self.tokens.forget();
    }

    /// Blocks are observed from now on. Requests that began earlier own blocks that were not observed.
    pub fn begin(&mut self, at: Nanos) {
        self.since = at;
        self.requests.begin();
    }

    /// The least age, in seconds, that makes a block mature.
    pub fn maturity_floor(&self) -> f64 {
        self.maturity_floor
    }

    /// Takes the losses. An unknown request is in flight unless records were lost.
    pub fn losses(&mut self, losses: &Losses) {
        self.records_lost = losses.requests_lost > 0 || losses.ring_full > 0;
    }

    /// The owner of `group` at time `now`.
    pub fn owner(&self, group: &LiveGroup, now: Nanos) -> Owner {
        let by_birth = group.born.plus(self.maturity_floor);
        let Some(id) = group.request.filter(|_| group.binding != Binding::None) else {
            // Births are rounded down to the second, so one second is added.
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
                // A block allocated after its request's end (by a task that still runs) matures by its
                // birth.
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

    /// Name of the route and token class of the requests that allocated `group`. `None`: no request, or none that is known.
    pub fn origin(&self, group: &LiveGroup, now: Nanos) -> Option<(String, TokenClass)> {
        match self.owner(group, now) {
            Owner::Known(origin) if origin.route.has_requests() => {
                let route = self.routes.get(origin.route).name.clone();
                Some((route, origin.class.token_class()))
            }
            Owner::Known(_) | Owner::InFlight => None,
        }
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.routes.state_bytes()
            + self.tokens.state_bytes()
            + self.token_routes.state_bytes()
            + self.requests.state_bytes()
            + self.sites.state_bytes()
    }
}
