//! From walks to censuses: selects the containers to report over time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use heaptide_process::memory::{Budget, ProcessMemory};

use super::code::Code;
use super::interpreter::Interpreter;
use super::layout::Layout;
use super::lengths::Sampled;
use super::memory::Pages;
use super::paths::text;
use super::sizes::Scale;
use super::stacks;
use super::types::{Shape, Types, c_string};
use super::walk::{Found, Walk};
use crate::door::ReadError;
use heaptide_judge::events::{Census, Container, FrameKind, INSTANCES, Nanos, WriterSite};

/// Maximum containers in one census.
const MAX_ROWS: usize = 64;
/// Maximum number selected for growth; the rest are the largest.
const MAX_GROWN: usize = 48;
/// A smaller container is reported only after it has grown.
const MIN_ENTRIES: u64 = 32;
/// Growth since the first census for which a container is reported.
const GREW: u64 = 8;
/// Paths whose first size is recorded.
const MAX_KNOWN: usize = 65_536;
/// Bytes of pages cached during a walk.
const PAGES: usize = 16 << 20;
/// Budget of a walk: bytes, objects and time.
const MAX_BYTES: u64 = 4 << 30;
const MAX_OBJECTS: u64 = 2_000_000;
const MAX_TIME: Duration = Duration::from_secs(1);
/// Budget of describing the result: names, and sizes of sampled entries.
const TELL_BYTES: u64 = 256 << 20;
const TELL_TIME: Duration = Duration::from_millis(500);
/// Tag of rows that count instances.
const OF_CLASSES: u64 = 0x9e37_79b9_7f4a_7c15;

/// The record of a path.
#[derive(Clone, Copy, Debug)]
struct Known {
    first: u64,
    first_mean: f64,
    last: u64,
    /// It was reported, so it is reported as long as it exists.
    told: bool,
    seen: u64,
}

/// A row that may be reported.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: u64,
    entries: u64,
    grown: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Container { step: u32, shape: Shape },
    Instances { class: u64 },
}

/// The result of a census, and the containers to sample until the next.
pub(super) struct Taken {
    pub(super) census: Census,
    pub(super) growing: Vec<Sampled>,
    /// Time at which instances were counted.
    pub(super) listed: Instant,
}

/// The censuses of one target.
pub(crate) struct Censuses {
    pid: u32,
    start_ticks: u64,
    python: Interpreter,
    known: FxHashMap<u64, Known>,
    turn: u64,
}

impl Censuses {
    /// Starts without a census.
    pub(crate) fn new(pid: u32, start_ticks: u64, python: Interpreter) -> Self {
        Self {
            pid,
            start_ticks,
            python,
            known: FxHashMap::default(),
            turn: 0,
        }
    }

    /// The layout in use.
    pub(super) fn layout(&self) -> &Layout {
        &self.python.layout
    }

    /// Walks the target's objects. The caller sets the times of the census.
    pub(super) fn walk(&mut self) -> Result<Taken, ReadError> {
        let memory = ProcessMemory::new(self.pid, self.start_ticks);
        let budget = Budget::new(MAX_BYTES, MAX_OBJECTS, MAX_TIME);
        let mut pages = Pages::new(memory, PAGES, budget);
        let mut walk = Walk::new(&mut pages, Arc::clone(&self.python.layout));
        if walk.pages.word(self.python.runtime & !7).is_none() {
            return Err(ReadError::Unreadable);
        }
        if !walk.run(&self.python) {
            return Err(ReadError::Layout);
        }
        self.turn += 1;
        walk.cut |= walk.pages.budget.is_over();
        walk.pages.budget = Budget::new(TELL_BYTES, u64::MAX, TELL_TIME);
        let candidates = self.candidates(&walk);
        let chosen = self.choose(candidates);
        let mut growing = Vec::new();
        let mut containers = Vec::new();
        for candidate in chosen {
            let Some(container) = tell(&mut walk, &candidate) else {
                continue;
            };
            growing.extend(to_watch(&walk, &candidate, &container));
            containers.push(container);
        }
        if !walk.pages.is_the_same() {
            return Err(ReadError::Unreadable);
        }
        let census = Census {
            at: Nanos(0),
            instances_at: Nanos(0),
            objects: walk.objects,
            torn: walk.torn,
            cut: walk.cut,
            containers,
        };
        Ok(Taken {
            census,
            growing,
            listed: walk.listed,
        })
    }

    fn candidates(&mut self, walk: &Walk<'_, ProcessMemory>) -> Vec<Candidate> {
        let mut all = Vec::new();
        let containers = walk.found.iter().map(|((step, shape), found)| {
            let key = walk.paths.key(*step) ^ (*shape as u64) << 48;
            let what = What::Container {
                step: *step,
                shape: *shape,
            };
            // a container within another counts only if it grows itself, not if their number grows
            let within = walk.paths.within(*step);
            let mean = found.entries as f64 / found.holders.max(1) as f64;
            (
                key,
                found.entries,
                what,
                within.then_some(mean),
                walk.paths.total(*step),
            )
        });
        let instances = walk.instances.iter().map(|(class, count)| {
            let what = What::Instances { class: *class };
            (class ^ OF_CLASSES, *count, what, None, true)
        });
        // instance counts of an incomplete walk are not valid
        for (key, entries, what, mean, total) in containers.chain(instances.filter(|_| !walk.cut)) {
            if !total {
                continue;
            }
            if !self.known.contains_key(&key) && self.known.len() >= MAX_KNOWN {
                continue;
            }
            // a path that appears after the first census has grown from 0
            let first = if self.turn == 1 { entries } else { 0 };
            let known = self.known.entry(key).or_insert(Known {
                first,
                first_mean: mean.unwrap_or(0.0),
                last: entries,
                told: false,
                seen: 0,
            });
            known.last = entries;
            known.seen = self.turn;
            let steady = mean.is_some_and(|mean| mean < known.first_mean * 1.1 + 4.0);
            let grown = if steady {
                0
            } else {
                entries.saturating_sub(known.first)
            };
            if known.told || grown >= GREW || (entries >= MIN_ENTRIES && mean.is_none()) {
                all.push(Candidate {
                    key,
                    entries,
                    grown,
                    what,
                });
            }
        }
        let turn = self.turn;
        if !walk.cut {
            self.known.retain(|_, known| turn - known.seen < 8);
        }
        all
    }

    /// Those reported before come first, then those that grew most, then the largest.
    fn choose(&mut self, mut all: Vec<Candidate>) -> Vec<Candidate> {
        let told = |known: &FxHashMap<u64, Known>, one: &Candidate| {
            known.get(&one.key).is_some_and(|known| known.told)
        };
        all.sort_by_key(|one| {
            let instances = matches!(one.what, What::Instances { .. });
            (
                std::cmp::Reverse((told(&self.known, one), one.grown)),
                instances,
                std::cmp::Reverse(one.entries),
                one.key,
            )
        });
        let grown: Vec<Candidate> = all
            .iter()
            .filter(|one| one.grown >= GREW || told(&self.known, one))
            .take(MAX_GROWN)
            .copied()
            .collect();
        let mut rest: Vec<Candidate> = all
            .into_iter()
            .filter(|one| {
                matches!(one.what, What::Container { .. })
                    && !grown.iter().any(|other| other.key == one.key)
            })
            .collect();
        rest.sort_by_key(|one| (std::cmp::Reverse(one.entries), one.key));
        for one in &grown {
            if let Some(known) = self.known.get_mut(&one.key) {
                known.told = true;
            }
        }
        let room = MAX_ROWS - grown.len();
        grown
            .into_iter()
            .chain(rest.into_iter().take(room))
            .collect()
    }
}

fn tell(walk: &mut Walk<'_, ProcessMemory>, candidate: &Candidate) -> Option<Container> {
    match candidate.what {
        What::Container { step, shape } => {
            let found = *walk.found.get(&(step, shape))?;
            let path = walk.paths.spell(walk.pages, &mut walk.types, step);
            let kind = kind(walk, shape, found.object, found.bound);
            let mut scale = Scale {
                pages: walk.pages,
                types: &mut walk.types,
            };
            let each = scale.entry_bytes(shape, found.object);
            Some(Container {
                path,
                kind,
                entries: found.entries,
                bytes: each.map(|each| {
                    found
                        .table_bytes
                        .saturating_add(each.saturating_mul(found.entries))
                }),
                also_at: others(walk, &found, step),
                writers: match shape {
                    Shape::LruCache => cached_function(walk, found.object).into_iter().collect(),
                    _ => Vec::new(),
                },
                ..Container::default()
            })
        }
        What::Instances { class } => Some(Container {
            path: class_name(walk, class)?,
            kind: INSTANCES.to_string(),
            entries: candidate.entries,
            ..Container::default()
        }),
    }
}

/// The function whose results an `lru_cache` keeps, if it is the application's own: only calls of it add entries.
fn cached_function(walk: &mut Walk<'_, ProcessMemory>, cache: u64) -> Option<WriterSite> {
    let layout = walk.types.layout();
    let function = walk.pages.field(cache, layout.lru_function)?;
    let code = walk.pages.field(function, layout.function_code)?;
    let code = Code::read(walk.pages, &mut walk.types, code)?;
    (stacks::kind(code.file.as_deref()) == FrameKind::User).then(|| WriterSite {
        function: code.function.clone(),
        file: code.file.clone(),
        line: Some(code.first_line()),
        samples: 0,
    })
}

/// A container that has grown and is the only object of its path.
fn to_watch(
    walk: &Walk<'_, ProcessMemory>,
    candidate: &Candidate,
    container: &Container,
) -> Option<Sampled> {
    let What::Container { step, shape } = candidate.what else {
        return None;
    };
    let found = walk.found.get(&(step, shape))?;
    (candidate.grown >= GREW && found.holders == 1 && !walk.paths.within(step)).then(|| Sampled {
        path: container.path.clone(),
        kind: container.kind.clone(),
        object: found.object,
        shape,
    })
}

/// The other names of a container that is the only object of its path.
fn others(walk: &mut Walk<'_, ProcessMemory>, found: &Found, step: u32) -> Vec<String> {
    if found.holders != 1 {
        return Vec::new();
    }
    let steps = walk.names.remove(&found.object).unwrap_or_default();
    steps
        .into_iter()
        .filter(|other| *other != step)
        .map(|other| walk.paths.spell(walk.pages, &mut walk.types, other))
        .collect()
}

/// The container's type, with its own bound if it has one.
fn kind(
    walk: &mut Walk<'_, ProcessMemory>,
    shape: Shape,
    object: u64,
    bound: Option<u64>,
) -> String {
    let layout = walk.types.layout();
    let name = match shape {
        Shape::LruCache => "lru_cache".to_string(),
        _ => walk
            .pages
            .field(object, layout.ob_type)
            .and_then(|class| walk.pages.field(class, layout.tp_name))
            .and_then(|name| c_string(walk.pages, name))
            .map_or_else(
                || "container".to_string(),
                |name| name.rsplit('.').next().unwrap_or(&name).to_string(),
            ),
    };
    match bound {
        Some(bound) => format!("{name} of at most {bound}"),
        None => name,
    }
}

/// `module.Class`.
fn class_name(walk: &mut Walk<'_, ProcessMemory>, class: u64) -> Option<String> {
    let layout = walk.types.layout();
    let qualname = walk.pages.field(class, layout.ht_qualname)?;
    let name = text(walk.pages, &mut walk.types, qualname, 200)?;
    let module = module_of(walk, &layout, class);
    Some(match module {
        Some(module) => format!("{module}.{name}"),
        None => name,
    })
}

/// `__module__` of a class.
fn module_of(walk: &mut Walk<'_, ProcessMemory>, layout: &Layout, class: u64) -> Option<String> {
    let names = walk.pages.field(class, layout.tp_dict)?;
    let (mut pairs, mut scratch) = (Vec::new(), Vec::new());
    super::objects::dict(walk.pages, layout, names, &mut pairs, &mut scratch).ok()?;
    let types: &mut Types = &mut walk.types;
    let (_, value) = pairs
        .into_iter()
        .find(|(key, _)| text(walk.pages, types, *key, 10).as_deref() == Some("__module__"))?;
    text(walk.pages, types, value, 100)
}
