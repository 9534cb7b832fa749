//! Functions that keep memory of requests, and when they free it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::traffic::Sizes;

/// What makes a function keep an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trigger {
    /// A request whose token has no entry.
    Token,
    /// Any request.
    Request,
    /// So many times per second, without a request.
    Timer(f64),
}

/// When entries are freed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    Forever,
    /// This fraction is freed after so many seconds.
    Partly(f64, f64),
    /// Least recently used first, beyond so many entries.
    Lru(usize),
    /// After so many seconds.
    Ttl(f64),
    /// All at once, at an interval in seconds.
    Batch(f64),
    /// No entries after the first so many.
    First(usize),
    /// After a time with this mean.
    Exponential(f64),
    /// One buffer per request in progress, reused.
    Pool,
    /// Entries in one block, which is enlarged by this factor; the initial capacity.
    Table(f64, usize),
}

/// A function that keeps memory.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pub(crate) function: String,
    /// `None`: on every route.
    pub(crate) route: Option<usize>,
    /// Fraction of the triggers that have an effect.
    pub(crate) chance: f64,
    /// Fraction of the tokens that have an effect.
    pub(crate) tokens: f64,
    pub(crate) trigger: Trigger,
    pub(crate) policy: Policy,
    pub(crate) sizes: Sizes,
    /// Blocks of an entry: 1 or 2.
    pub(crate) blocks: usize,
    /// Seconds before which it has no effect.
    pub(crate) from: f64,
}

/// No slot, or no token.
pub(crate) const NONE: u32 = u32::MAX;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) slots: [u32; 2],
    pub(crate) token: u32,
}

/// Whether a token is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Present,
    /// Present, and used since the last check.
    Used,
}

/// Present contents of a keeper.
#[derive(Default)]
pub(crate) struct Holding {
    present: Vec<u8>,
    pub(crate) queue: VecDeque<Held>,
    pub(crate) due: BinaryHeap<Reverse<(u64, Held)>>,
    /// Entries created so far.
    pub(crate) made: usize,
    /// Bytes allocated for entries so far.
    pub(crate) bytes: f64,
    /// Slot and capacity of the table.
    pub(crate) table: Option<(u32, usize)>,
    /// Number of timer events or batch clearings.
    pub(crate) ticks: u64,
}

impl Holding {
    pub(crate) fn presence(&self, token: u32) -> Presence {
        match self.present.get(token as usize) {
            Some(1) => Presence::Present,
            Some(2) => Presence::Used,
            _ => Presence::Absent,
        }
    }

    pub(crate) fn set(&mut self, token: u32, presence: Presence) {
        if token == NONE {
            return;
        }
        let index = token as usize;
        if self.present.len() <= index {
            self.present.resize(index + index / 2 + 64, 0);
        }
        self.present[index] = presence as u8;
    }
}
