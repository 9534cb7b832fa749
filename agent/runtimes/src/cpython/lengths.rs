//! The lengths of a few growing containers, many times a second: a word of each, between two censuses. So many
//! levels show which requests an entry came with, where a census shows only what came in three seconds.

use std::time::{Duration, Instant};

use heaptide_process::{clocks, memory};

use super::types::Shape;
use heaptide_judge::events::{Lengths, Nanos};

/// Between two samples.
const PERIOD: Duration = Duration::from_millis(50);
/// Samples that are told together.
const BATCH: usize = 20;
/// Containers that are sampled.
const MOST: usize = 8;

/// A container whose length is sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sampled {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) object: u64,
    pub(super) shape: Shape,
}

/// The containers of one process whose lengths are sampled.
#[derive(Debug, Default)]
pub(super) struct Samples {
    sampled: Vec<Sampled>,
    /// Types of the objects, by which another one at the same address is noticed.
    types: Vec<u64>,
    ticks: Vec<(Nanos, Vec<u64>)>,
    due: Option<Instant>,
}

impl Samples {
    /// Samples at these from now on; returns what was seen of others and is not told yet.
    pub(super) fn of(&mut self, pid: u32, mut wanted: Vec<Sampled>) -> Option<Lengths> {
        wanted.truncate(MOST);
        if wanted == self.sampled {
            return None;
        }
        let rest = self.told();
        self.sampled = wanted;
        // those of the objects before are no measure for these
        self.types.clear();
        self.types = self
            .read(pid)
            .map(|words| words.iter().map(|word| word[1]).collect())
            .unwrap_or_default();
        if self.types.is_empty() {
            self.sampled.clear();
        }
        self.due = (!self.sampled.is_empty()).then(Instant::now);
        rest
    }

    /// When the next sample is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Samples; what was seen, when there is enough of it.
    pub(super) fn take(&mut self, pid: u32) -> Option<Lengths> {
        let Some(words) = self.read(pid) else {
            // one of them is gone: the next census says what is there
            let rest = self.told();
            *self = Self::default();
            return rest;
        };
        let lengths = words.iter().zip(&self.sampled);
        let lengths = lengths
            .map(|(words, one)| match one.shape {
                Shape::Set => words[3],
                _ => words[2],
            })
            .collect();
        self.ticks.push((clocks::now(), lengths));
        self.due = Some(Instant::now() + PERIOD);
        (self.ticks.len() >= BATCH).then(|| self.told()).flatten()
    }

    /// The first words of each object: references, type, and where its length is (a set's is behind the number
    /// of its places in use). `None` when they are not all what they were.
    fn read(&self, pid: u32) -> Option<Vec<[u64; 4]>> {
        let objects: Vec<u64> = self.sampled.iter().map(|one| one.object).collect();
        let words: Option<Vec<[u64; 4]>> = memory::many::<4>(pid, &objects).into_iter().collect();
        words.filter(|words| {
            self.types.is_empty()
                || words
                    .iter()
                    .map(|word| word[1])
                    .eq(self.types.iter().copied())
        })
    }

    fn told(&mut self) -> Option<Lengths> {
        let ticks = std::mem::take(&mut self.ticks);
        let at = ticks.last()?.0;
        let containers = self.sampled.iter();
        Some(Lengths {
            at,
            containers: containers
                .map(|one| (one.path.clone(), one.kind.clone()))
                .collect(),
            ticks,
        })
    }
}
