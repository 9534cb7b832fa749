//! Roots of a walk: modules, frames of threads, the collector's lists.

use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::objects::{OrTorn, Torn};
use super::super::paths::{Edge, ROOT};
use super::super::types::Shape;
use super::{
    MAX_CLASSES, MAX_INTERPRETERS, MAX_STACK, MAX_THREADS, MAX_VARIABLES, Read, VariableNames, Walk,
};
use crate::cpython::interpreter::Interpreter;
use crate::cpython::layout::{FramePointer, StackTop};

/// Attempts at an inconsistent list.
const LIST_TRIES: usize = 3;
/// Maximum stack values of a generator.
const MAX_VALUES: u64 = 64;

impl<R: Read> Walk<'_, R> {
    /// Walks all interpreters; `false` if the runtime structure does not match the version.
    pub(in crate::cpython) fn run(&mut self, python: &Interpreter) -> bool {
        let layout = &python.layout;
        let head = layout.interpreters_head;
        let mut interpreter = self.pages.field(python.runtime, head).unwrap_or(0);
        let mut interpreters = Vec::new();
        while interpreter != 0
            && interpreters.len() < MAX_INTERPRETERS
            && !interpreters.contains(&interpreter)
        {
            interpreters.push(interpreter);
            interpreter = self
                .pages
                .field(interpreter, layout.interp_next)
                .unwrap_or(0);
        }
        let mut sound = false;
        for interpreter in &interpreters {
            sound |= self.modules(*interpreter).is_ok();
        }
        self.drain();
        for interpreter in &interpreters {
            self.threads(*interpreter);
        }
        self.drain();
        if layout.gc_in_runtime {
            interpreters = vec![python.runtime];
        }
        for holder in interpreters {
            self.collected(holder);
        }
        sound
    }

    fn modules(&mut self, interpreter: u64) -> Result<(), Torn> {
        let at = self.types.layout().modules;
        let modules = self.pages.field(interpreter, at).or_torn()?;
        let info = self.types.of(self.pages, modules).or_torn()?;
        if info.shape != Shape::Dict {
            return Err(Torn);
        }
        self.seen.insert(modules);
        self.read_dict(modules)?;
        for (name, module) in std::mem::take(&mut self.pairs) {
            self.push(module, ROOT, Edge::Module(name));
        }
        Ok(())
    }

    /// Visits the local variables of all threads.
    pub(super) fn threads(&mut self, interpreter: u64) {
        let layout = self.types.layout();
        let head = layout.threads_head;
        let mut thread = self.pages.field(interpreter, head).unwrap_or(0);
        let mut met = FxHashSet::default();
        for _ in 0..MAX_THREADS {
            if thread == 0
                || self.pages.field(thread, layout.tstate_interp) != Some(interpreter)
                || !met.insert(thread)
            {
                break;
            }
            let mut frame = match layout.tstate_frame {
                FramePointer::Direct(at) => self.pages.field(thread, at),
                FramePointer::Through(at, then) => self
                    .pages
                    .field(thread, at)
                    .and_then(|cframe| self.pages.field(cframe, then)),
            }
            .unwrap_or(0);
            let mut frames = FxHashSet::default();
            for _ in 0..MAX_STACK {
                if frame == 0 || !frames.insert(frame) || self.over() {
                    break;
                }
                // A frame that is being left does not matter: the next census sees the result.
                let _ = self.frame(frame, None);
                frame = self.pages.field(frame, layout.frame_previous).unwrap_or(0);
            }
            thread = self.pages.field(thread, layout.tstate_next).unwrap_or(0);
        }
    }

    /// Visits the variables of a frame, and the value stack of a suspended generator.
    pub(super) fn frame(&mut self, frame: u64, stack_from: Option<u32>) -> Result<(), Torn> {
        let layout = self.types.layout();
        let code = untagged(self.pages.field(frame, layout.frame_code).or_torn()?);
        if self.types.of(self.pages, code).or_torn()?.shape != Shape::Code {
            return Err(Torn);
        }
        let names = VariableNames::of(self.pages, &layout, code).or_torn()?;
        let root = self.paths.child(ROOT, Edge::Frame(code));
        for index in 0..names.count().min(MAX_VARIABLES) {
            let at = layout.frame_locals + index * 8;
            let value = self.pages.field(frame, at).or_torn()?;
            let name = names.name(self.pages, &layout, index).unwrap_or(0);
            self.push(untagged(value), root, Edge::Name(name));
        }
        if let Some(step) = stack_from {
            let from = names.count();
            let top = self.stack_top(frame)?.min(from.saturating_add(MAX_VALUES));
            for index in from..top {
                let at = layout.frame_locals.wrapping_add(index * 8);
                let value = self.pages.field(frame, at).or_torn()?;
                self.push_field(untagged(value), step);
            }
        }
        Ok(())
    }

    /// Values in a suspended frame, including variables; 0 if it runs.
    fn stack_top(&mut self, frame: u64) -> Result<u64, Torn> {
        let layout = self.types.layout();
        let first = frame.wrapping_add(layout.frame_locals);
        let top = match layout.frame_top {
            StackTop::Index(at) => u64::from(self.pages.half(frame.wrapping_add(at)).or_torn()?),
            StackTop::Address(at) => {
                let top = self.pages.field(frame, at).or_torn()?;
                top.checked_sub(first).map_or(0, |bytes| bytes / 8)
            }
            StackTop::Depth { first: at, depth } => {
                let base = self.pages.field(frame, at).or_torn()?;
                let depth = self.pages.half(frame.wrapping_add(depth)).or_torn()?;
                match (i32::try_from(depth), base.checked_sub(first)) {
                    (Ok(depth), Some(bytes)) => bytes / 8 + u64::from(depth.unsigned_abs()),
                    _ => 0,
                }
            }
        };
        Ok(top)
    }

    /// Walks the collector's lists: counts instances of classes and finds suspended generators.
    pub(super) fn collected(&mut self, holder: u64) {
        let layout = self.types.layout();
        let mut heads: Vec<u64> = (0..3)
            .map(|n| holder.wrapping_add(layout.gc_generations + n * layout.gc_generation))
            .collect();
        heads.push(holder.wrapping_add(layout.gc_permanent));
        let begun = Instant::now();
        for head in &heads {
            // changes during the walk break a list: the longest of several attempts is nearest to the whole
            let mut most = (0, FxHashMap::default());
            for _ in 0..LIST_TRIES {
                self.pages.forget_all();
                let (whole, count, instances) = self.list(*head, &heads);
                if count >= most.0 {
                    most = (count, instances);
                }
                if whole || self.cut {
                    break;
                }
            }
            for (class, count) in most.1 {
                if self.instances.len() < MAX_CLASSES || self.instances.contains_key(&class) {
                    *self.instances.entry(class).or_default() += count;
                }
            }
        }
        self.listed = begun + begun.elapsed() / 2;
    }

    /// Walks one list: whether it reached the end, and the number of objects, in all and per class.
    fn list(&mut self, head: u64, heads: &[u64]) -> (bool, u64, FxHashMap<u64, u64>) {
        let layout = self.types.layout();
        let mut instances: FxHashMap<u64, u64> = FxHashMap::default();
        let mut count = 0;
        let mut at = self.pages.word(head).unwrap_or(0) & !3;
        while !heads.contains(&at) {
            if at == 0 || self.over() {
                return (false, count, instances);
            }
            let object = at.wrapping_add(layout.gc_head);
            let class = self.pages.field(object, layout.ob_type).unwrap_or(0);
            let Some(info) = self.types.at(self.pages, class) else {
                // moved to another list or freed during the walk
                self.torn += 1;
                return (false, count, instances);
            };
            if info.class && (instances.len() < MAX_CLASSES || instances.contains_key(&class)) {
                *instances.entry(class).or_default() += 1;
            }
            if info.shape == Shape::Generator && !self.seen.contains(object) {
                self.push(object, ROOT, Edge::Deep);
                self.drain();
            }
            count += 1;
            if !self.seen.contains(object) {
                self.objects += 1;
                self.pages.budget.object();
            }
            at = self.pages.word(at).unwrap_or(0) & !3;
        }
        (true, count, instances)
    }
}

/// A reference of a frame: from 3.14 on the lowest bits mark ownership or non-objects.
fn untagged(value: u64) -> u64 {
    if value & 3 == 3 { 0 } else { value & !3 }
}
