//! Contents of instances: attributes, slots, and fields of C objects.

use super::super::objects::{self, Held, Torn};
use super::super::paths::{Edge, name_of};
use super::super::types::{Shape, TypeInfo};
use super::{Read, Walk};

/// The same limit for an instance: with more attributes they are data.
const MAX_ATTRIBUTES: u64 = 128;

impl<R: Read> Walk<'_, R> {
    /// Attributes and slots.
    pub(super) fn instance(&mut self, object: u64, info: &TypeInfo, step: u32) -> Result<(), Torn> {
        if info.managed || info.dictoffset > 0 {
            let (pairs, scratch) = (&mut self.pairs, &mut self.scratch);
            let dictionary =
                objects::attributes(self.pages, &mut self.types, object, info, pairs, scratch)?;
            let held = Held {
                entries: self.pairs.len() as u64,
                ..Held::default()
            };
            self.seen.insert(dictionary.unwrap_or(object));
            if info.state {
                self.state(step);
            } else {
                self.names(dictionary.unwrap_or(object), held, step, MAX_ATTRIBUTES);
            }
        }
        if info.class {
            let (pairs, scratch) = (&mut self.pairs, &mut self.scratch);
            objects::slots(self.pages, &mut self.types, object, info, pairs, scratch)?;
            self.names(object, Held::default(), step, MAX_ATTRIBUTES);
        }
        Ok(())
    }

    /// A Starlette `State` (an application's `state`): the entries of its `_state` are its attributes.
    fn state(&mut self, step: u32) {
        for (name, value) in std::mem::take(&mut self.pairs) {
            let inner = name_of(self.pages, &mut self.types, name).as_deref() == Some("_state");
            if inner && !self.seen.contains(value) && self.namespace(value, step).is_ok() {
                continue;
            }
            self.push(value, step, Edge::Name(name));
        }
    }

    /// A `threading.local`: one of its fields is a dictionary with one namespace per thread.
    pub(super) fn thread_local(
        &mut self,
        object: u64,
        info: &TypeInfo,
        step: u32,
    ) -> Result<(), Torn> {
        let mut list = Vec::new();
        objects::fields(self.pages, object, info, &mut list)?;
        for field in list {
            let shape = self.types.of(self.pages, field).map(|info| info.shape);
            if shape != Some(Shape::Dict) || !self.seen.insert(field) {
                continue;
            }
            self.read_dict(field)?;
            for (_, names) in std::mem::take(&mut self.pairs) {
                let shape = self.types.of(self.pages, names).map(|info| info.shape);
                if shape == Some(Shape::Dict) {
                    self.namespace(names, step)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn raw_fields(
        &mut self,
        object: u64,
        info: &TypeInfo,
        step: u32,
    ) -> Result<(), Torn> {
        objects::fields(self.pages, object, info, &mut self.list)?;
        let list = std::mem::take(&mut self.list);
        for word in &list {
            if *word > 4096 && self.counts_references(*word) {
                self.push_field(*word, step);
            }
        }
        self.list = list;
        Ok(())
    }

    /// Whether a word of unknown meaning may point to an object. A pointer into a table of pairs would have
    /// a class in place of the type and a pointer in place of the reference count.
    fn counts_references(&mut self, word: u64) -> bool {
        // Immortal objects have counts up to 2^32.
        const MOST: u64 = 1 << 33;
        let counts = self.types.layout().refcount;
        word & 7 == 0
            && self
                .pages
                .word(word)
                .is_some_and(|count| count & counts != 0 && count & counts < MOST)
    }
}
