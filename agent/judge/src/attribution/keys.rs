//! What memory is attributed to: a route and a token class.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::events::TokenClass;

/// A hash map without a random seed: its iteration order depends on its content only, so a replay gives an
/// identical report. Use it for keys that no client can choose (ids from the kernel).
pub type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

impl RouteId {
    /// No request at all.
    pub const BACKGROUND: Self = Self(0);
    /// A request whose record was lost.
    pub const UNATTRIBUTED: Self = Self(1);
    /// A request that is not HTTP, or one beyond the maximum number of routes.
    pub const OTHER: Self = Self(2);

    /// Whether requests belong to it.
    pub fn has_requests(self) -> bool {
        self >= Self::OTHER
    }
}

/// The token class of a request, finer than [`TokenClass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A token first seen.
    New,
    /// A token seen before, but not on this route.
    NewHere,
    /// A token seen before on this route.
    Repeat,
    /// No token.
    None,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All, by index.
    pub const ALL: [Self; Self::COUNT] = [Self::New, Self::NewHere, Self::Repeat, Self::None];

    /// Position in arrays by class.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The class without regard to the route, as reports count it.
    pub fn token_class(self) -> TokenClass {
        match self {
            Self::New => TokenClass::New,
            Self::NewHere | Self::Repeat => TokenClass::Repeat,
            Self::None => TokenClass::None,
        }
    }
}
