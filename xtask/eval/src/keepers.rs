//! What a function keeps of the requests that come through it, and when it lets go.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::traffic::Sizes;

/// What makes a function keep something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trigger {
    /// A request whose token is not kept.
    Token,
    /// Any request.
    Request,
    /// So many times a second, without a request.
    Timer(f64),
}

/// When it lets go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    Forever,
    /// This part is let go so many seconds after.
    Partly(f64, f64),
    /// Least recently used out, beyond so many.
    Lru(usize),
    /// So many seconds after.
    Ttl(f64),
    /// All at once, every so many seconds.
    Batch(f64),
    /// Nothing after the first so many.
    First(usize),
    /// After a time with this mean.
    Exponential(f64),
    /// One buffer for each request under way, reused.
    Pool,
    /// Entries inside one block that becomes larger by this factor, at first for so many.
    Table(f64, usize),
}

/// A function that keeps something.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pub(crate) function: String,
    /// `None`: on every route.
    pub(crate) route: Option<usize>,
    /// Part of the triggers that has an effect.
    pub(crate) chance: f64,
    pub(crate) trigger: Trigger,
    pub(crate) policy: Policy,
    pub(crate) sizes: Sizes,
    /// Blocks of an entry: 1 or 2.
    pub(crate) blocks: usize,
    /// Seconds before which it does nothing.
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
    /// And was used since somebody looked.
    Used,
}

/// What a keeper holds now.
#[derive(Default)]
pub(crate) struct Holding {
    present: Vec<u8>,
    pub(crate) queue: VecDeque<Held>,
    pub(crate) due: BinaryHeap<Reverse<(u64, Held)>>,
    /// Entries ever made.
    pub(crate) made: usize,
    /// Bytes ever taken for entries.
    pub(crate) bytes: f64,
    /// Slot and capacity of the table.
    pub(crate) table: Option<(u32, usize)>,
    /// Times a timer fired, or batches were cleared.
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
