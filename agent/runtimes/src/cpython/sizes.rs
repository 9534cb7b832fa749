//! Estimates the bytes that a container's entries hold, from a sample.

use heaptide_process::memory::Read;

use super::memory::Pages;
use super::objects;
use super::paths::str_state;
use super::types::{Shape, TypeInfo, Types};

/// Measured entries.
const SAMPLE: usize = 32;
/// Maximum objects counted per entry.
const MAX_NODES: usize = 128;
/// Maximum depth below an entry.
const MAX_DEPTH: usize = 6;

/// Measures objects.
pub(super) struct Scale<'a, R> {
    pub(super) pages: &'a mut Pages<R>,
    pub(super) types: &'a mut Types,
}

impl<R: Read> Scale<'_, R> {
    /// Mean bytes kept by one entry of the container: objects referenced only by it.
    pub(super) fn entry_bytes(&mut self, shape: Shape, container: u64) -> Option<u64> {
        let mut pairs = Vec::new();
        let mut list = Vec::new();
        let layout = self.types.layout();
        let wanted = if shape == Shape::LruCache {
            Shape::Dict
        } else {
            shape
        };
        if self.types.of(self.pages, container)?.shape != wanted {
            return None;
        }
        if wanted == Shape::Dict {
            objects::dict(self.pages, &layout, container, &mut pairs, &mut list).ok()?;
        } else {
            objects::items(self.pages, &layout, shape, container, &mut list).ok()?;
            pairs = list.iter().map(|item| (0, *item)).collect();
        }
        if pairs.is_empty() {
            return None;
        }
        // the middle of each part, so that neither the first nor the last entries dominate
        let parts = pairs.len().min(SAMPLE);
        let mut sum = 0;
        for part in 0..parts {
            let index = (2 * part + 1) * pairs.len() / (2 * parts);
            let (key, value) = *pairs.get(index)?;
            let mut seen = Vec::new();
            sum += self.kept(key, 0, &mut seen) + self.kept(value, 0, &mut seen);
        }
        Some(sum / parts as u64)
    }

    /// Bytes of an object and of those referenced only by it; 0 if there are other references to it, or if it was `seen`:
    /// a structure may have the address of an object that it does not count a reference to (`memoryview`).
    fn kept(&mut self, object: u64, depth: usize, seen: &mut Vec<u64>) -> u64 {
        let is_over = depth > MAX_DEPTH || seen.len() >= MAX_NODES;
        if object == 0 || is_over || seen.contains(&object) {
            return 0;
        }
        seen.push(object);
        let only = self.pages.word(object).map(|count| count & 0xffff_ffff) == Some(1);
        let info = self.types.of(self.pages, object).filter(|_| only);
        let Some(info) = info else { return 0 };
        let (own, children) = self.weigh(object, &info).unwrap_or_default();
        own + children
            .into_iter()
            .map(|child| self.kept(child, depth + 1, seen))
            .sum::<u64>()
    }

    fn weigh(&mut self, object: u64, info: &TypeInfo) -> Option<(u64, Vec<u64>)> {
        let layout = self.types.layout();
        let before = layout.gc_head * u64::from(info.gc) + 16 * u64::from(info.managed);
        let mut pairs = Vec::new();
        let mut list = Vec::new();
        let (own, children) = match info.shape {
            Shape::Str => (self.str_bytes(object)?, list),
            Shape::Bytes => (layout.bytes_data + 1 + self.size(object)?, list),
            Shape::Int => (32, list),
            Shape::Dict => {
                let held =
                    objects::dict(self.pages, &layout, object, &mut pairs, &mut list).ok()?;
                let children = pairs.iter().flat_map(|(key, value)| [*key, *value]);
                (held.bytes, children.take(MAX_NODES).collect())
            }
            Shape::List | Shape::Tuple | Shape::Set | Shape::Deque => {
                let held =
                    objects::items(self.pages, &layout, info.shape, object, &mut list).ok()?;
                list.truncate(MAX_NODES);
                (held.bytes, list)
            }
            Shape::Fields => {
                let (pages, types) = (&mut *self.pages, &mut *self.types);
                let dict =
                    objects::attributes(pages, types, object, info, &mut pairs, &mut list).ok()?;
                let values = pairs.len() as u64 * 8;
                let mut children: Vec<u64> = match dict {
                    Some(dict) => vec![dict],
                    None => pairs.iter().map(|(_, value)| *value).collect(),
                };
                objects::fields(self.pages, object, info, &mut list).ok()?;
                children.extend(list.iter().filter(|word| **word > 4096));
                children.truncate(MAX_NODES);
                (before + info.basicsize + values, children)
            }
            _ => (before + info.basicsize, list),
        };
        // blocks have multiples of 16 bytes
        Some((own.div_ceil(16) * 16, children))
    }

    fn size(&mut self, object: u64) -> Option<u64> {
        let layout = self.types.layout();
        let size = self.pages.field(object, layout.ob_size)?;
        (size < 1 << 32).then_some(size)
    }

    fn str_bytes(&mut self, object: u64) -> Option<u64> {
        let layout = self.types.layout();
        let len = self.pages.field(object, layout.str_length)?;
        let state = str_state(self.pages, &layout, object)?;
        let width = u64::from(state >> layout.str_kind_shift & 7);
        let head = if state & layout.str_ascii != 0 {
            layout.str_ascii_data
        } else {
            layout.str_compact_data
        };
        (len < 1 << 32).then(|| head + (len + 1) * width.clamp(1, 4))
    }
}
