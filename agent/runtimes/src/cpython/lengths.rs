//! Samples the lengths of a few growing containers, one word each, many times a second between two censuses.
//! The samples show which requests add entries. A census shows only the change over three seconds.

use std::time::{Duration, Instant};

use heaptide_process::clocks;
use heaptide_process::memory::{Budget, ProcessMemory};

use super::layout::Layout;
use super::types::Shape;
use heaptide_judge::events::{Lengths, Nanos};

/// Sampling interval.
const PERIOD: Duration = Duration::from_millis(50);
/// Samples reported together.
const BATCH: usize = 20;
/// Maximum number of sampled containers.
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
    /// Types of the objects, to notice another object at the same address.
    types: Vec<u64>,
    ticks: Vec<(Nanos, Vec<u64>)>,
    due: Option<Instant>,
}

impl Samples {
    /// Samples these containers from now on; returns pending samples of the previous ones.
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
        // types of the previous objects do not apply
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

    /// Takes a sample; returns the pending ones when there are enough.
    pub(super) fn take(&mut self, memory: &ProcessMemory, layout: &Layout) -> Option<Lengths> {
        let Some(objects) = self.read(memory, layout) else {
            // one container is gone: wait for the next census
            let rest = self.told();
            *self = Self::default();
            return rest;
        };
        let lengths = objects.into_iter().map(|(_, length)| length).collect();
        self.ticks.push((clocks::now(), lengths));
        self.due = Some(Instant::now() + PERIOD);
        (self.ticks.len() >= BATCH).then(|| self.told()).flatten()
    }

    /// Type and length of each object; `None` if a type has changed.
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
