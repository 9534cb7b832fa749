//! The walk over a target's objects: from modules, frames and generators along all references to the containers.

mod instances;
mod roots;
#[cfg(test)]
mod torn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use heaptide_process::memory::Read;
use rustc_hash::FxHashMap;

use super::layout::{Generator, Layout};
use super::memory::Pages;
use super::objects::{self, Held, OrTorn, Torn};
use super::paths::{Edge, Paths};
use super::types::{Shape, TypeInfo, Types};
use super::variables::VariableNames;

/// A namespace with more names is treated as a container.
const MAX_NAMES: u64 = 4096;
/// Maximum containers with alternative names, and names of each.
const MAX_NAMED: usize = 16_384;
const MAX_ALIASES: usize = 4;
/// Attempts at an inconsistent object.
const TRIES: usize = 3;
/// Maximum interpreters, threads of one, frames of one thread.
const MAX_INTERPRETERS: usize = 16;
const MAX_THREADS: usize = 4096;
const MAX_STACK: usize = 256;
/// Maximum variables of a frame, or free variables of a function.
const MAX_VARIABLES: u64 = 1024;
/// Maximum memory pages with visited objects. Hash tables double at a load of 7/8: these bounds are just below
/// that.
const MAX_SEEN: usize = 229_376;
/// Maximum length of the queue.
const MAX_QUEUE: usize = 524_288;
/// Maximum number of distinct containers and paths, and of classes.
const MAX_FOUND: usize = 114_688;
const MAX_CLASSES: usize = 14_336;

/// A container, or all containers of the same path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) entries: u64,
    /// Bytes of the containers' tables.
    pub(super) table_bytes: u64,
    /// Number of containers of the path.
    pub(super) holders: u64,
    /// One of them.
    pub(super) object: u64,
    /// Its maximum number of entries, if it declares one.
    pub(super) bound: Option<u64>,
}

/// One walk.
pub(super) struct Walk<'a, R> {
    pub(super) pages: &'a mut Pages<R>,
    pub(super) types: Types,
    pub(super) paths: Paths,
    pub(super) found: FxHashMap<(u32, Shape), Found>,
    /// Instances of the program's classes in the collector's lists, by class address.
    pub(super) instances: FxHashMap<u64, u64>,
    /// Steps of alternative names of visited containers, by address.
    pub(super) names: FxHashMap<u64, Vec<u32>>,
    pub(super) objects: u64,
    pub(super) torn: u64,
    pub(super) cut: bool,
    /// Time at which the collector's lists were walked.
    pub(super) listed: Instant,
    seen: Seen,
    queue: VecDeque<(u64, u32)>,
    pairs: Vec<(u64, u64)>,
    list: Vec<u64>,
    scratch: Vec<u64>,
}

/// Visited addresses, one bit per 16 bytes.
#[derive(Default)]
struct Seen(FxHashMap<u64, [u64; 4]>);

impl Seen {
    /// Whether it is new and can be recorded.
    fn insert(&mut self, address: u64) -> bool {
        if self.0.len() >= MAX_SEEN && !self.0.contains_key(&(address >> 12)) {
            return false;
        }
        let bits = self.0.entry(address >> 12).or_default();
        let (word, bit) = ((address >> 10 & 3) as usize, address >> 4 & 63);
        let new = bits[word] >> bit & 1 == 0;
        bits[word] |= 1 << bit;
        new
    }

    fn contains(&self, address: u64) -> bool {
        self.0
            .get(&(address >> 12))
            .is_some_and(|bits| bits[(address >> 10 & 3) as usize] >> (address >> 4 & 63) & 1 == 1)
    }
}

impl<'a, R: Read> Walk<'a, R> {
    /// The budget is that of `pages`.
    pub(super) fn new(pages: &'a mut Pages<R>, layout: Arc<Layout>) -> Self {
        Self {
            pages,
            types: Types::new(layout),
            paths: Paths::new(),
            found: FxHashMap::default(),
            instances: FxHashMap::default(),
            names: FxHashMap::default(),
            objects: 0,
            torn: 0,
            cut: false,
            listed: Instant::now(),
            seen: Seen::default(),
            queue: VecDeque::new(),
            pairs: Vec::new(),
            list: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The budget or a table is exhausted.
    fn over(&mut self) -> bool {
        self.cut |= self.pages.budget.is_over() || self.seen.0.len() >= MAX_SEEN;
        self.cut
    }

    fn drain(&mut self) {
        while let Some((object, step)) = self.queue.pop_front() {
            self.objects += 1;
            self.pages.budget.object();
            if self.over() {
                self.queue.clear();
                return;
            }
            let mut tries = 0;
            while self.visit(object, step).is_err() {
                tries += 1;
                self.pages.forget(object.saturating_sub(32), 512);
                if tries == TRIES {
                    self.torn += 1;
                    break;
                }
            }
        }
    }

    /// Queues an unvisited object with references.
    fn push(&mut self, object: u64, parent: u32, edge: Edge) {
        if let Some(object) = self.holder(object) {
            let step = self.paths.child(parent, edge);
            self.enqueue(object, step);
        } else if matches!(edge, Edge::Name(_) | Edge::Closure(_)) {
            self.name_again(object, parent, edge);
        }
    }

    /// A visited container has another name: the code that stores into it may use only that one.
    fn name_again(&mut self, object: u64, parent: u32, edge: Edge) {
        if object & 7 != 0 || !self.seen.contains(object) || self.names.len() >= MAX_NAMED {
            return;
        }
        let shape = self.types.of(self.pages, object).map(|info| info.shape);
        if !matches!(
            shape,
            Some(Shape::Dict | Shape::List | Shape::Set | Shape::Deque)
        ) {
            return;
        }
        let step = self.paths.child(parent, edge);
        let names = self.names.entry(object).or_default();
        if names.len() < MAX_ALIASES {
            names.push(step);
        }
    }

    /// The same for references without a name, which share their holder's path.
    fn push_field(&mut self, object: u64, step: u32) {
        if let Some(object) = self.holder(object) {
            self.enqueue(object, step);
        }
    }

    fn enqueue(&mut self, object: u64, step: u32) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.push_back((object, step));
        } else {
            self.cut = true;
        }
    }

    fn holder(&mut self, object: u64) -> Option<u64> {
        if object & 7 != 0 || object >> 47 != 0 || self.seen.contains(object) {
            return None;
        }
        let info = self.types.of(self.pages, object)?;
        let leaf = matches!(
            info.shape,
            Shape::Leaf | Shape::Str | Shape::Bytes | Shape::Int | Shape::Weak | Shape::Code
        );
        (!leaf && self.seen.insert(object)).then_some(object)
    }

    fn visit(&mut self, object: u64, step: u32) -> Result<(), Torn> {
        let info = self.types.of(self.pages, object).or_torn()?;
        match info.shape {
            Shape::Module => {
                let at = self.types.layout().module_dict;
                let names = self.pages.field(object, at).or_torn()?;
                self.namespace(names, step)?;
            }
            Shape::Type => {
                let at = self.types.layout().tp_dict;
                let names = self.pages.field(object, at).or_torn()?;
                if names != 0 {
                    self.namespace(names, step)?;
                }
            }
            Shape::Function => self.function(object, step)?,
            Shape::Generator => self.generator(object, step)?,
            Shape::ThreadLocal => self.thread_local(object, &info, step)?,
            Shape::Dict => {
                let held = self.read_dict(object)?;
                self.container(object, step, Shape::Dict, held, None);
                self.entries(held, step);
                self.instance(object, &info, step)?;
            }
            Shape::List | Shape::Tuple | Shape::Set | Shape::Deque => {
                let layout = self.types.layout();
                let list = &mut self.list;
                let held = objects::items(self.pages, &layout, info.shape, object, list)?;
                let bound = (info.shape == Shape::Deque)
                    .then(|| self.pages.field(object, layout.deque_maxlen))
                    .flatten();
                if info.shape != Shape::Tuple {
                    let bound = bound.filter(|max| *max < u64::MAX / 2);
                    self.container(object, step, info.shape, held, bound);
                }
                self.elements(held, step);
                self.instance(object, &info, step)?;
            }
            Shape::LruCache => self.lru_cache(object, &info, step)?,
            Shape::Fields => {
                self.instance(object, &info, step)?;
                self.raw_fields(object, &info, step)?;
            }
            Shape::Leaf | Shape::Str | Shape::Bytes | Shape::Int | Shape::Code | Shape::Weak => {}
        }
        Ok(())
    }

    fn read_dict(&mut self, object: u64) -> Result<Held, Torn> {
        let layout = self.types.layout();
        objects::dict(
            self.pages,
            &layout,
            object,
            &mut self.pairs,
            &mut self.scratch,
        )
    }

    /// A dictionary whose keys are names of the program.
    fn namespace(&mut self, names: u64, step: u32) -> Result<(), Torn> {
        if self.types.of(self.pages, names).or_torn()?.shape != Shape::Dict {
            return Err(Torn);
        }
        let held = self.read_dict(names)?;
        self.seen.insert(names);
        self.names(names, held, step, MAX_NAMES);
        Ok(())
    }

    fn names(&mut self, dictionary: u64, held: Held, step: u32, max: u64) {
        if held.entries.max(self.pairs.len() as u64) > max {
            let step = self.paths.child(step, Edge::Namespace);
            self.container(dictionary, step, Shape::Dict, held, None);
            self.entries(held, step);
            return;
        }
        let pairs = std::mem::take(&mut self.pairs);
        for (name, value) in &pairs {
            self.push(*value, step, Edge::Name(*name));
        }
        self.pairs = pairs;
    }

    /// The entries of the dictionary just read. Its keys are data, not names.
    fn entries(&mut self, held: Held, step: u32) {
        self.below(held, step);
        let pairs = std::mem::take(&mut self.pairs);
        for (key, value) in &pairs {
            self.push(*value, step, Edge::Index);
            self.push(*key, step, Edge::Index);
        }
        self.pairs = pairs;
    }

    fn elements(&mut self, held: Held, step: u32) {
        self.below(held, step);
        let list = std::mem::take(&mut self.list);
        for item in &list {
            self.push(*item, step, Edge::Index);
        }
        self.list = list;
    }

    /// Only a sample of a large container was read, so counts below it are not totals.
    fn below(&mut self, held: Held, step: u32) {
        if held.sampled {
            let below = self.paths.child(step, Edge::Index);
            self.paths.mark_sampled(below);
        }
    }

    fn function(&mut self, object: u64, step: u32) -> Result<(), Torn> {
        let layout = self.types.layout();
        let globals = self
            .pages
            .field(object, layout.function_globals)
            .or_torn()?;
        let code = self.pages.field(object, layout.function_code).or_torn()?;
        let defaults = self
            .pages
            .field(object, layout.function_defaults)
            .or_torn()?;
        let keywords = self
            .pages
            .field(object, layout.function_keywords)
            .or_torn()?;
        let closure = self
            .pages
            .field(object, layout.function_closure)
            .or_torn()?;
        let attributes = self.pages.field(object, layout.function_dict).or_torn()?;
        if closure != 0 {
            let names = VariableNames::of(self.pages, &layout, code).or_torn()?;
            for index in 0..names.free_count().min(MAX_VARIABLES) {
                let at = layout.tuple_items + index * 8;
                let cell = self.pages.field(closure, at).or_torn()?;
                let name = names.free(self.pages, &layout, index).or_torn()?;
                let value = self.pages.field(cell, layout.cell_value).or_torn()?;
                self.push(value, step, Edge::Closure(name));
            }
        }
        if defaults != 0 {
            let list = &mut self.list;
            objects::items(self.pages, &layout, Shape::Tuple, defaults, list)?;
            let list = std::mem::take(&mut self.list);
            for value in &list {
                self.push(*value, step, Edge::Default);
            }
            self.list = list;
        }
        for names in [keywords, attributes] {
            if names != 0 && self.types.of(self.pages, names).is_some() {
                self.namespace(names, step)?;
            }
        }
        // globals of a module that is not in `sys.modules` (`exec`, a script runner)
        if globals != 0 && !self.seen.contains(globals) {
            let step = self.paths.child(step, Edge::Namespace);
            self.namespace(globals, step)?;
        }
        Ok(())
    }

    fn generator(&mut self, object: u64, step: u32) -> Result<(), Torn> {
        let frame = match self.types.layout().generator {
            Generator::Frame(at) => self.pages.field(object, at).or_torn()?,
            Generator::Within { frame, state, rest } => {
                let state = self.pages.byte(object.wrapping_add(state)).or_torn()?;
                // the frame of a running generator is visited with its thread
                if (rest.0..rest.1).contains(&state.cast_signed()) {
                    object.wrapping_add(frame)
                } else {
                    0
                }
            }
        };
        if frame == 0 {
            return Ok(());
        }
        self.frame(frame, Some(step))
    }

    fn lru_cache(&mut self, object: u64, info: &TypeInfo, step: u32) -> Result<(), Torn> {
        let layout = self.types.layout();
        let cache = self.pages.field(object, layout.lru_cache).or_torn()?;
        let function = self.pages.field(object, layout.lru_function).or_torn()?;
        let maxsize = self.pages.field(object, layout.lru_maxsize).or_torn()?;
        if self.types.of(self.pages, cache).or_torn()?.shape != Shape::Dict {
            return Err(Torn);
        }
        let held = self.read_dict(cache)?;
        self.seen.insert(cache);
        let bound = Some(maxsize).filter(|max| *max < u64::MAX / 2);
        self.container(cache, step, Shape::LruCache, held, bound);
        self.entries(held, step);
        self.push_field(function, step);
        self.instance(object, info, step)
    }

    fn container(&mut self, object: u64, step: u32, shape: Shape, held: Held, bound: Option<u64>) {
        let known = self.found.len() < MAX_FOUND || self.found.contains_key(&(step, shape));
        if held.entries == 0 || !known {
            return;
        }
        let found = self.found.entry((step, shape)).or_insert(Found {
            entries: 0,
            table_bytes: 0,
            holders: 0,
            object,
            bound,
        });
        found.entries = found.entries.saturating_add(held.entries);
        found.table_bytes = found.table_bytes.saturating_add(held.bytes);
        found.holders += 1;
    }
}
