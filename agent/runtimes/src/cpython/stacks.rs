//! Stacks of Python frames: from code objects and instructions to functions, files and lines, and how often
//! each stack was seen.

use std::sync::Arc;
use std::time::Duration;

use heaptide_ebpf::{SITE_PROVISIONAL, SITE_SEED, Stack, python_place, site_step};
use heaptide_process::memory::{Budget, ProcessMemory};
use rustc_hash::FxHashMap;

use super::code::{Code, Identity};
use super::interpreter::Interpreter;
use super::memory::Pages;
use super::types::Types;
use heaptide_judge::events::{Frame, FrameKind, Site, SiteId};

/// Bytes of pages cached while stacks are resolved.
const PAGES: usize = 1 << 20;
/// Maximum number of distinct stacks, of frames and of lines.
const MAX_STACKS: usize = 4096;
/// Maximum number of cached code objects, and their total size (see [`Code::weight`]).
const MAX_CODES: usize = 8192;
const MAX_WEIGHT: usize = 1 << 19;
/// Budget of resolving one stack.
const BYTES: u64 = 16 << 20;
const TIME: Duration = Duration::from_millis(50);

/// A stack by lines, and the pages touched there.
#[derive(Debug)]
pub(super) struct Sampled {
    /// Code and line, innermost first.
    pub(super) frames: Vec<(Arc<Code>, Option<u32>)>,
    pub(super) pages: u64,
}

/// The stacks of one target.
pub(super) struct Stacks {
    pid: u32,
    start_ticks: u64,
    python: Interpreter,
    layout: u32,
    pub(super) codes: FxHashMap<u64, Arc<Code>>,
    weight: usize,
    /// Resolved kernel sites; `None`: unreadable.
    known: FxHashMap<u64, Option<SiteId>>,
    pub(super) sampled: FxHashMap<SiteId, Sampled>,
}

/// A stack with its code objects and lines.
type Resolved = (SiteId, Site, Vec<(Arc<Code>, Option<u32>)>);

impl Stacks {
    /// Starts without stacks.
    pub(super) fn new(pid: u32, start_ticks: u64, layout: u32, python: Interpreter) -> Self {
        Self {
            pid,
            start_ticks,
            python,
            layout,
            codes: FxHashMap::default(),
            weight: 0,
            known: FxHashMap::default(),
            sampled: FxHashMap::default(),
        }
    }

    /// Counts pages touched at a kernel site; `stack` returns its stack. Returns the site's id, and the site
    /// itself if it is new.
    pub(super) fn add(
        &mut self,
        raw: u64,
        pages: u64,
        stack: &mut dyn FnMut() -> Option<Stack>,
    ) -> (Option<SiteId>, Option<Site>) {
        if let Some(known) = self.known.get(&raw) {
            if let Some(sampled) = known.and_then(|id| self.sampled.get_mut(&id)) {
                sampled.pages += pages;
            }
            return (*known, None);
        }
        self.make_room();
        let resolved = stack().and_then(|stack| self.resolve(&stack));
        let Some((id, site, frames)) = resolved else {
            self.known.insert(raw, None);
            return (None, None);
        };
        self.known.insert(raw, Some(id));
        let new = !self.sampled.contains_key(&id);
        let sampled = self
            .sampled
            .entry(id)
            .or_insert(Sampled { frames, pages: 0 });
        sampled.pages += pages;
        (Some(id), new.then_some(site))
    }

    /// Drops the least frequent stacks, so that later growth has room.
    fn make_room(&mut self) {
        if self.sampled.len() < MAX_STACKS && self.known.len() < 4 * MAX_STACKS {
            return;
        }
        let mut pages: Vec<u64> = self.sampled.values().map(|sampled| sampled.pages).collect();
        pages.sort_unstable();
        let middle = pages.get(pages.len() / 2).copied().unwrap_or(0);
        self.sampled.retain(|_, sampled| sampled.pages > middle);
        let sampled = &self.sampled;
        self.known
            .retain(|_, id| id.is_some_and(|id| sampled.contains_key(&id)));
    }

    fn resolve(&mut self, stack: &Stack) -> Option<Resolved> {
        let memory = ProcessMemory::new(self.pid, self.start_ticks);
        let budget = Budget::new(BYTES, u64::MAX, TIME);
        let mut pages = Pages::new(memory, PAGES, budget);
        let mut types = Types::new(Arc::clone(&self.python.layout));
        let depth = (stack.depth as usize).min(stack.frames.len());
        let mut frames = Vec::with_capacity(depth);
        let mut truncated = stack.truncated != 0;
        let mut hash = SITE_SEED ^ u64::from(self.layout).rotate_left(32);
        for frame in &stack.frames[..depth] {
            let (address, instruction) = python_place(*frame);
            let Some(code) = self.code(&mut pages, &mut types, address) else {
                truncated = true;
                break;
            };
            let line = code.line(instruction);
            hash = site_step(site_step(hash, address), u64::from(line.unwrap_or(0)));
            frames.push((code, line));
        }
        if frames.is_empty() || !pages.is_the_same() {
            return None;
        }
        let id = SiteId(hash & !SITE_PROVISIONAL);
        let site = Site {
            id,
            stack: frames
                .iter()
                .map(|(code, line)| frame(code, *line))
                .collect(),
            truncated,
        };
        Some((id, site, frames))
    }

    /// The code object at an address, read again if another one has replaced it.
    fn code(
        &mut self,
        pages: &mut Pages<ProcessMemory>,
        types: &mut Types,
        address: u64,
    ) -> Option<Arc<Code>> {
        let identity = Identity::of(pages, types, address)?;
        if let Some(code) = self.codes.get(&address)
            && code.identity == identity
        {
            return Some(Arc::clone(code));
        }
        let code = Code::read(pages, types, address)?;
        if self.codes.len() >= MAX_CODES || self.weight >= MAX_WEIGHT {
            self.codes.clear();
            self.weight = 0;
        }
        self.weight += code.weight();
        self.codes.insert(address, Arc::clone(&code));
        Some(code)
    }
}

fn frame(code: &Code, line: Option<u32>) -> Frame {
    let file = code.file.clone();
    let module = file
        .as_deref()
        .and_then(|file| file.rsplit('/').next())
        .unwrap_or("python");
    Frame {
        function: code.function.clone(),
        line,
        module: module.to_owned(),
        kind: kind(file.as_deref()),
        file,
    }
}

/// The kind of code, by its install location.
pub(super) fn kind(file: Option<&str>) -> FrameKind {
    const LIBRARY: [&str; 4] = [
        "/site-packages/",
        "/dist-packages/",
        "/lib/python3",
        "/lib64/python3",
    ];
    match file {
        None => FrameKind::Unknown,
        // frozen modules, and code compiled from a string
        Some(file) if file.starts_with('<') => FrameKind::Library,
        Some(file) if LIBRARY.iter().any(|part| file.contains(part)) => FrameKind::Library,
        Some(_) => FrameKind::User,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_code_it_is() {
        for (file, expected) in [
            ("/srv/shop/app.py", FrameKind::User),
            ("app.py", FrameKind::User),
            (
                "/srv/shop/.venv/lib/python3.12/site-packages/jwt/api_jwt.py",
                FrameKind::Library,
            ),
            ("/usr/lib/python3.11/json/__init__.py", FrameKind::Library),
            (
                "/usr/lib/python3/dist-packages/django/http.py",
                FrameKind::Library,
            ),
            ("<frozen importlib._bootstrap>", FrameKind::Library),
        ] {
            assert_eq!(kind(Some(file)), expected, "{file}");
        }
        assert_eq!(kind(None), FrameKind::Unknown);
    }
}
