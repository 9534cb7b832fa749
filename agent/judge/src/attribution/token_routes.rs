//! The routes on which each of the latest tokens was used.

use std::collections::VecDeque;

use super::keys::{Map, RouteId};
use crate::events::Fingerprint;

/// Maximum number of tokens; the oldest are forgotten.
const MOST: usize = 32_768;

/// The last bit.
const LAST: u16 = 63;

/// Routes by token.
#[derive(Default)]
pub struct TokenRoutes {
    /// One bit per route.
    known: Map<Fingerprint, u64>,
    /// In order of their first use.
    order: VecDeque<Fingerprint>,
}

impl TokenRoutes {
    /// A request of `route` had this token.
    pub fn used(&mut self, token: Fingerprint, route: RouteId) {
        if let Some(routes) = self.known.get_mut(&token) {
            *routes |= bit(route);
            return;
        }
        if self.known.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(token, bit(route));
        self.order.push_back(token);
    }

    /// Whether a token was used on a route. `None`: the token is not known, or the route has no bit of its own.
    pub fn was_used(&self, token: Fingerprint, route: RouteId) -> Option<bool> {
        if route.0 >= LAST {
            return None;
        }
        Some(self.known.get(&token)? & bit(route) != 0)
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.known.capacity() * 17 + self.order.capacity() * 8
    }
}

/// The bit of a route; later routes share the last one.
fn bit(route: RouteId) -> u64 {
    1 << route.0.min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut tokens = TokenRoutes::default();
        let (data, user) = (RouteId(5), RouteId(6));
        for number in 0..MOST as u64 {
            tokens.used(Fingerprint(number), data);
        }
        tokens.used(Fingerprint(1), user);
        tokens.used(Fingerprint(MOST as u64), user);
        assert_eq!(tokens.was_used(Fingerprint(0), data), None);
        assert_eq!(tokens.was_used(Fingerprint(1), data), Some(true));
        assert_eq!(tokens.was_used(Fingerprint(1), user), Some(true));
        assert_eq!(tokens.was_used(Fingerprint(2), user), Some(false));
        assert_eq!(tokens.known.len(), MOST);
    }
}
