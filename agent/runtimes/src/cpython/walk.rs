//! The walk over a target's objects: from modules, frames and generators along everything that names
//! or holds something, to the containers.

mod instances;
mod roots;
#[cfg(test)]
mod torn;

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::layout::Layout;
use super::memory::{Pages, Read};
use super::objects::{self, Held, OrTorn, Torn};
use super::paths::{Edge, Paths};
use super::types::{Shape, TypeInfo, Types};

/// A container with more entries is looked into here and there only.
const SAMPLED_FROM: usize = 8192;
/// So many of its entries then.
const SAMPLE: usize = 512;
/// A namespace with more names is taken for a container.
const MAX_NAMES: usize = 4096;
/// Containers whose other names are remembered, and names of each.
const MAX_NAMED: usize = 16_384;
const MAX_ALIASES: usize = 4;
/// Looks at an object that does not make sense.
const TRIES: usize = 3;
/// Interpreters, threads of one, frames of one thread.
const MAX_INTERPRETERS: usize = 16;
const MAX_THREADS: usize = 4096;
const MAX_STACK: usize = 256;

/// What a walk may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) until: Instant,
    pub(super) objects: u64,
}

/// A container, or all that are reached by the same path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) entries: u64,
    /// Bytes of the containers themselves.
    pub(super) table_bytes: u64,
    /// Containers of that path.
    pub(super) holders: u64,
    /// One of them.
    pub(super) object: u64,
    /// The most entries it will ever have, where it says so.
    pub(super) bound: Option<u64>,
}

/// One walk.
pub(super) struct Walk<'a, R> {
    pub(super) pages: &'a mut Pages<R>,
    pub(super) types: Types,
    pub(super) paths: Paths,
    pub(super) found: FxHashMap<(u32, Shape), Found>,
    /// Instances of the program's classes in the collector's lists, by address of the class.
    pub(super) instances: FxHashMap<u64, u64>,
    /// Steps by which containers that were met already are named once more, by address.
    pub(super) names: FxHashMap<u64, Vec<u32>>,
    pub(super) objects: u64,
    pub(super) torn: u64,
    pub(super) cut: bool,
    /// When the collector's lists were followed.
    pub(super) listed: Instant,
    bounds: Bounds,
    seen: Seen,
    queue: VecDeque<(u64, u32)>,
    pairs: Vec<(u64, u64)>,
    list: Vec<u64>,
    scratch: Vec<u64>,
}

/// Addresses met, a bit for each 16 bytes.
#[derive(Default)]
struct Seen(FxHashMap<u64, [u64; 4]>);

impl Seen {
    /// Whether it is met for the first time.
    fn insert(&mut self, address: u64) -> bool {
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
    pub(super) fn new(pages: &'a mut Pages<R>, layout: Layout, bounds: Bounds) -> Self {
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
            bounds,
            seen: Seen::default(),
            queue: VecDeque::new(),
            pairs: Vec::new(),
            list: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn over(&mut self) -> bool {
        if self.objects & 0xff == 0 && Instant::now() >= self.bounds.until {
            self.cut = true;
        }
        self.cut || self.objects >= self.bounds.objects
    }

    fn drain(&mut self) {
        while let Some((object, step)) = self.queue.pop_front() {
            self.objects += 1;
            if self.over() {
                self.cut = true;
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

    /// Queues an object that holds others and was not met yet.
    fn push(&mut self, object: u64, parent: u32, edge: Edge) {
        if let Some(object) = self.holder(object) {
            let step = self.paths.child(parent, edge);
            self.queue.push_back((object, step));
        } else if matches!(edge, Edge::Name(_) | Edge::Closure(_)) {
            self.name_again(object, parent, edge);
        }
    }

    /// A container met before has one more name: the code that fills it may know no other.
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

    /// The same for what is reached without a name: it shares its holder's path.
    fn push_field(&mut self, object: u64, step: u32) {
        if let Some(object) = self.holder(object) {
            self.queue.push_back((object, step));
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
                let names = self.pages.field(object, 16).or_torn()?;
                self.namespace(names, step)?;
            }
            Shape::Type => {
                let names = self.pages.field(object, Layout::TP_DICT).or_torn()?;
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
                self.entries(step);
                self.instance(object, &info, step)?;
            }
            Shape::List | Shape::Tuple | Shape::Set | Shape::Deque => {
                let held = objects::items(self.pages, info.shape, object, &mut self.list)?;
                let bound = (info.shape == Shape::Deque)
                    .then(|| self.pages.field(object, 64))
                    .flatten();
                if info.shape != Shape::Tuple {
                    let bound = bound.filter(|max| *max < u64::MAX / 2);
                    self.container(object, step, info.shape, held, bound);
                }
                self.elements(step);
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
        let layout = *self.types.layout();
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

    fn names(&mut self, dictionary: u64, held: Held, step: u32, max: usize) {
        if self.pairs.len() > max {
            let step = self.paths.child(step, Edge::Namespace);
            self.container(dictionary, step, Shape::Dict, held, None);
            self.entries(step);
            return;
        }
        let pairs = std::mem::take(&mut self.pairs);
        for (name, value) in &pairs {
            self.push(*value, step, Edge::Name(*name));
        }
        self.pairs = pairs;
    }

    /// The entries of the dictionary just read, which are data: their keys name nothing.
    fn entries(&mut self, step: u32) {
        let pairs = std::mem::take(&mut self.pairs);
        let stride = self.stride(pairs.len(), step);
        for (key, value) in pairs.iter().step_by(stride) {
            self.push(*value, step, Edge::Index);
            self.push(*key, step, Edge::Index);
        }
        self.pairs = pairs;
    }

    fn elements(&mut self, step: u32) {
        let list = std::mem::take(&mut self.list);
        let stride = self.stride(list.len(), step);
        for item in list.iter().step_by(stride) {
            self.push(*item, step, Edge::Index);
        }
        self.list = list;
    }

    fn stride(&mut self, len: usize, step: u32) -> usize {
        if len <= SAMPLED_FROM {
            return 1;
        }
        let below = self.paths.child(step, Edge::Index);
        self.paths.mark_sampled(below);
        len.div_ceil(SAMPLE)
    }

    fn function(&mut self, object: u64, step: u32) -> Result<(), Torn> {
        let layout = *self.types.layout();
        let globals = self.pages.field(object, 16).or_torn()?;
        let code = self.pages.field(object, 48).or_torn()?;
        let defaults = self.pages.field(object, 56).or_torn()?;
        let keywords = self.pages.field(object, 64).or_torn()?;
        let closure = self.pages.field(object, 72).or_torn()?;
        let attributes = self.pages.field(object, 88).or_torn()?;
        if closure != 0 {
            let variables = u64::from(
                self.pages
                    .half(code.wrapping_add(layout.code_nlocalsplus))
                    .or_torn()?,
            );
            let free = u64::from(
                self.pages
                    .half(code.wrapping_add(layout.code_nfreevars))
                    .or_torn()?,
            );
            let names = self
                .pages
                .field(code, Layout::CODE_LOCALSPLUSNAMES)
                .or_torn()?;
            objects::ensure(free <= variables)?;
            for index in 0..free.min(1024) {
                let cell = self.pages.field(closure, 24 + index * 8).or_torn()?;
                let at = 24 + (variables - free + index) * 8;
                let name = self.pages.field(names, at).or_torn()?;
                let value = self.pages.field(cell, 16).or_torn()?;
                self.push(value, step, Edge::Closure(name));
            }
        }
        if defaults != 0 {
            objects::items(self.pages, Shape::Tuple, defaults, &mut self.list)?;
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
        // the names of a module that is not in `sys.modules` (`exec`, a script's runner)
        if globals != 0 && !self.seen.contains(globals) {
            let step = self.paths.child(step, Edge::Namespace);
            self.namespace(globals, step)?;
        }
        Ok(())
    }

    fn generator(&mut self, object: u64, step: u32) -> Result<(), Torn> {
        let layout = *self.types.layout();
        let state = self
            .pages
            .byte(object.wrapping_add(layout.gen_state))
            .or_torn()? as i8;
        // 0 runs (its frame is met with its thread, its stack is in use), more has ended
        if state < 0 {
            self.frame(object.wrapping_add(layout.gen_frame), Some(step))?;
        }
        Ok(())
    }

    fn lru_cache(&mut self, object: u64, info: &TypeInfo, step: u32) -> Result<(), Torn> {
        const CACHE: u64 = 72;
        const FUNC: u64 = 88;
        const MAXSIZE: u64 = 96;
        let cache = self.pages.field(object, CACHE).or_torn()?;
        let function = self.pages.field(object, FUNC).or_torn()?;
        let maxsize = self.pages.field(object, MAXSIZE).or_torn()?;
        if self.types.of(self.pages, cache).or_torn()?.shape != Shape::Dict {
            return Err(Torn);
        }
        let held = self.read_dict(cache)?;
        self.seen.insert(cache);
        let bound = Some(maxsize).filter(|max| *max < u64::MAX / 2);
        self.container(cache, step, Shape::LruCache, held, bound);
        self.entries(step);
        self.push_field(function, step);
        self.instance(object, info, step)
    }

    fn container(&mut self, object: u64, step: u32, shape: Shape, held: Held, bound: Option<u64>) {
        if held.entries == 0 {
            return;
        }
        let found = self.found.entry((step, shape)).or_insert(Found {
            entries: 0,
            table_bytes: 0,
            holders: 0,
            object,
            bound,
        });
        found.entries += held.entries;
        found.table_bytes += held.bytes;
        found.holders += 1;
    }
}
