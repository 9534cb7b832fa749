//! Addresses to frames with names, files and lines: Go's from its function table, others through the
//! helper.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classify::{Origin, classify};
use super::go::GoNames;
use super::helper::{self, Files, Looked, Place};
use super::names::{has_path, normalise, written_in};
use super::split;
use crate::{
    error::ProcessError,
    files::Budget,
    maps,
    module::{Module, modules_on},
};
use heaptide_judge::events::{Frame, FrameKind, Site, SiteId};

/// Maximum number of cached addresses.
const MAX_CACHED: usize = 8192;
/// Maximum time to read the tables of all modules.
const MAX_REFRESH: Duration = Duration::from_secs(5);
/// Maximum number of pending limitations.
const MAX_SAID: usize = 16;

struct Mapped {
    module: Module,
    /// Names of a Go program.
    go: Option<GoNames>,
    /// The module and its debug information, kept open: names are available after the process has
    /// ended. `None`: not searched yet.
    files: Option<Files>,
}

/// Symbolizes the addresses of one process.
pub struct Symbolizer {
    pid: u32,
    modules: Vec<Mapped>,
    cache: HashMap<u64, Arc<[Frame]>>,
    /// Limitations; the first ones were returned already, as counted.
    said: (usize, Vec<String>),
}

impl Symbolizer {
    /// Reads the mappings of a process.
    pub fn new(pid: u32) -> Result<Self, ProcessError> {
        let mut symbolizer = Self {
            pid,
            modules: Vec::new(),
            cache: HashMap::new(),
            said: (0, Vec::new()),
        };
        symbolizer.refresh()?;
        Ok(symbolizer)
    }

    /// Reads the mappings again (after a `dlopen` or an exec).
    pub fn refresh(&mut self) -> Result<(), ProcessError> {
        let mappings = maps::read(self.pid)?;
        let budget = Budget::until(Instant::now() + MAX_REFRESH);
        let mut limitations = Vec::new();
        let found = modules_on(self.pid, &mappings, &budget, &mut limitations);
        say(&mut self.said.1, limitations);
        let before: Vec<_> = self
            .modules
            .iter()
            .map(|m| (m.module.inode, m.module.bias))
            .collect();
        // One that the budget did not reach is still there if the file is mapped where it was.
        let is_there = |module: &Module| {
            let new = found.iter().find(|new| new.inode == module.inode);
            new.map_or_else(
                || {
                    let mut mapped = mappings.iter();
                    mapped.any(|one| {
                        (one.dev, one.inode) == module.inode && one.start == module.start
                    })
                },
                |new| new.bias == module.bias,
            )
        };
        let count = self.modules.len();
        self.modules.retain(|mapped| is_there(&mapped.module));
        if self.modules.len() < count {
            // addresses may have another meaning now
            self.cache.clear();
        }
        for module in found {
            if !before.contains(&(module.inode, module.bias)) {
                let go = GoNames::open(&module, self.pid);
                module.elf.release();
                self.modules.push(Mapped {
                    module,
                    go,
                    files: None,
                });
            }
        }
        // Addresses are looked up later, and each look-up reads little.
        budget.set_deadline(None);
        self.modules.sort_by_key(|m| m.module.start);
        Ok(())
    }

    /// Symbolizes a stack, innermost first. All addresses are return addresses, except that the first
    /// is the interrupted instruction if `exact_first`. Inlined functions become separate frames.
    pub fn resolve(
        &mut self,
        id: SiteId,
        addresses: &[u64],
        exact_first: bool,
        truncated: bool,
    ) -> Site {
        let mut stack = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let exact = exact_first && index == 0;
            // a return address may belong to the next line or the next function
            let lookup = if exact {
                *address
            } else {
                address.wrapping_sub(1)
            };
            stack.extend(self.frames(lookup).iter().cloned());
        }
        if stack.is_empty() {
            stack.push(unknown("[unknown]", 0));
        }
        self.release();
        Site {
            id,
            stack: stack.into(),
            truncated,
        }
    }

    /// Symbolizes a stack in which each address is exactly one frame: inlined functions have their own
    /// addresses, as in Go's profiles. All are return addresses.
    pub fn resolve_each(&mut self, id: SiteId, addresses: &[u64]) -> Site {
        let mut stack: Vec<Frame> = Vec::new();
        for address in addresses {
            stack.extend(self.frames(address.wrapping_sub(1)).first().cloned());
        }
        if stack.is_empty() {
            stack.push(unknown("[unknown]", 0));
        }
        Site {
            id,
            stack: stack.into(),
            truncated: false,
        }
    }

    /// The frames at an address, innermost first; at least one.
    fn frames(&mut self, address: u64) -> Arc<[Frame]> {
        if let Some(frames) = self.cache.get(&address) {
            return frames.clone();
        }
        let frames: Arc<[Frame]> = self.look_up(address).into();
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        self.cache.insert(address, frames.clone());
        frames
    }

    fn look_up(&mut self, address: u64) -> Vec<Frame> {
        let after = self.modules.partition_point(|m| m.module.start <= address);
        let mapped = after
            .checked_sub(1)
            .and_then(|index| self.modules.get_mut(index));
        let Some(mapped) = mapped.filter(|m| address < m.module.end) else {
            return vec![unknown("[anonymous]", address)];
        };
        let module = &mapped.module;
        let svma = address.wrapping_sub(module.bias);
        if let Some(go) = &mapped.go {
            let frames = go.frames(module, svma);
            if !frames.is_empty() {
                return frames;
            }
        }
        let pid = self.pid;
        let mut why = Vec::new();
        let files = mapped
            .files
            .get_or_insert_with(|| split::files(module, pid, &mut why));
        let (looked, failed) = helper::look(files, svma);
        say(&mut self.said.1, why.into_iter().chain(failed));
        expand(module, looked).unwrap_or_else(|| vec![unnamed(module, svma)])
    }

    /// Limitations, each once.
    pub fn limitations(&mut self) -> Vec<String> {
        let (told, said) = &mut self.said;
        let fresh = said.get(*told..).unwrap_or_default().to_vec();
        *told = said.len();
        fresh
    }

    /// Drops caches.
    pub fn release(&mut self) {
        for mapped in &self.modules {
            mapped.module.elf.release();
        }
    }
}

/// The functions at an address, innermost first; `None` if it has no name.
fn expand(module: &Module, looked: Looked) -> Option<Vec<Frame>> {
    let Looked { symbol, mut places } = looked;
    let outermost = places.pop().unwrap_or_default();
    // line tables have function names without a path, symbols have it
    let full = match (&outermost.function, &symbol) {
        (Some(name), Some(symbol)) if !has_path(name) => symbol,
        (Some(name), _) => name,
        (None, Some(symbol)) => symbol,
        (None, None) => return None,
    };
    let mut frames = vec![frame(module, normalise(full), &outermost)];
    let own = outermost.function.as_deref().unwrap_or(full);
    let mut enclosing = vec![own];
    for inlined in places.iter().rev() {
        let name = inlined.function.as_deref().unwrap_or_default();
        let mut next = frame(module, normalise(name), inlined);
        if next.kind == FrameKind::User
            && let Some(function) = written_in(name, &enclosing)
        {
            next.function = function;
        }
        enclosing.push(name);
        frames.push(next);
    }
    frames.reverse();
    Some(frames)
}

fn frame(module: &Module, function: String, place: &Place) -> Frame {
    let kind = classify(&Origin {
        function: Some(&function),
        file: place.file.as_deref(),
        module: &module.path,
        main: module.main,
        described: is_described(module),
    });
    Frame {
        function,
        file: place.file.clone(),
        line: place.line,
        module: module.name.clone(),
        kind,
    }
}

fn is_described(module: &Module) -> bool {
    module.elf.section(".debug_info").is_some()
}

fn unnamed(module: &Module, svma: u64) -> Frame {
    let origin = Origin {
        function: None,
        file: None,
        module: &module.path,
        main: module.main,
        described: false,
    };
    Frame {
        function: format!("{}+{svma:#x}", module.name),
        file: None,
        line: None,
        module: module.name.clone(),
        kind: classify(&origin),
    }
}

/// Adds limitations that are new, up to the maximum.
fn say(said: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for one in more {
        if said.len() < MAX_SAID && !said.contains(&one) {
            said.push(one);
        }
    }
}

fn unknown(module: &str, address: u64) -> Frame {
    Frame {
        function: format!("{module}+{address:#x}"),
        file: None,
        line: None,
        module: module.to_string(),
        kind: FrameKind::Unknown,
    }
}
