//! The lengths of a few growing containers, many times a second: a word of each, between two censuses. So many
//! levels show which requests an entry came with, where a census shows only what came in three seconds.

use std::time::{Duration, Instant};

use heaptide_process::clocks;
use heaptide_process::memory::{Budget, ProcessMemory};

use super::layout::Layout;
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
    pub(super) fn of(
        &mut self,
        memory: &ProcessMemory,
        layout: &Layout,
        mut wanted: Vec<Sampled>,
    ) -> Option<Lengths> {
        wanted.truncate(MOST);
        if wanted == self.sampled {
            return None;
        }
        let rest = self.told();
        self.sampled = wanted;
        // those of the objects before are no measure for these
        self.types.clear();
        self.types = self
            .read(memory, layout)
            .map(|objects| objects.iter().map(|(class, _)| *class).collect())
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
    pub(super) fn take(&mut self, memory: &ProcessMemory, layout: &Layout) -> Option<Lengths> {
        let Some(objects) = self.read(memory, layout) else {
            // one of them is gone: the next census says what is there
            let rest = self.told();
            *self = Self::default();
            return rest;
        };
        let lengths = objects.into_iter().map(|(_, length)| length).collect();
        self.ticks.push((clocks::now(), lengths));
        self.due = Some(Instant::now() + PERIOD);
        (self.ticks.len() >= BATCH).then(|| self.told()).flatten()
    }

    /// Type and length of each object. `None` when they are not all what they were.
    fn read(&self, memory: &ProcessMemory, layout: &Layout) -> Option<Vec<(u64, u64)>> {
        let addresses: Vec<u64> = self
            .sampled
            .iter()
            .flat_map(|one| {
                let length = match one.shape {
                    Shape::Set => layout.set_used,
                    Shape::Dict | Shape::LruCache => layout.dict_used,
                    _ => layout.ob_size,
                };
                [layout.ob_type, length].map(|at| one.object.wrapping_add(at))
            })
            .collect();
        let words: Option<Vec<[u64; 1]>> = memory
            .many::<1>(&addresses, &mut Budget::small())
            .into_iter()
            .collect();
        let words = words?;
        let objects: Vec<(u64, u64)> = words
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [[class], [length]] => Some((*class, *length)),
                _ => None,
            })
            .collect();
        let same = objects.iter().map(|(class, _)| class).eq(&self.types);
        (self.types.is_empty() || same).then_some(objects)
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
