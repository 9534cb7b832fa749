//! What memory is attributed to: a route and a token class.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::events::TokenClass;

/// A map whose iteration order depends on nothing but its content, so that a replay gives the same
/// report to the last bit. Keys are kernel numbers, not text chosen by a client.
pub type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

impl RouteId {
    /// No request at all.
    pub const BACKGROUND: Self = Self(0);
    /// A request whose record was lost.
    pub const UNATTRIBUTED: Self = Self(1);
    /// A request that is no HTTP or beyond the number of routes.
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

    /// What it is to the rest of the world, where a route is of no interest.
    pub fn token_class(self) -> TokenClass {
        match self {
            Self::New => TokenClass::New,
            Self::NewHere | Self::Repeat => TokenClass::Repeat,
            Self::None => TokenClass::None,
        }
    }
}
