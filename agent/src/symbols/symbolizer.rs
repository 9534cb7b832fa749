//! Addresses into frames with names, files and lines, by way of blazesym on the mapped files.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blazesym::symbolize::source::{self, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized};

use super::classify::{Origin, classify};
use super::names::normalise;
use crate::events::{Frame, Site, SiteId};
use crate::target::{self, Module, TargetError, maps};

/// Addresses whose frames are kept.
const MAX_CACHED: usize = 8192;
/// Resident bytes of the agent above which blazesym's own caches are dropped after a stack.
const MAX_RESIDENT: u64 = 40 << 20;

struct Mapped {
    module: Module,
    /// Held open, so that names are still found after the process has ended.
    file: Option<File>,
}

/// Names the addresses of one process.
pub struct Symbolizer {
    pid: u32,
    modules: Vec<Mapped>,
    blazesym: Option<blazesym::symbolize::Symbolizer>,
    cache: HashMap<u64, Arc<[Frame]>>,
}

impl Symbolizer {
    /// Reads the mappings of a process.
    pub fn new(pid: u32) -> Result<Self, TargetError> {
        let mut symbolizer = Self {
            pid,
            modules: Vec::new(),
            blazesym: None,
            cache: HashMap::new(),
        };
        symbolizer.refresh()?;
        Ok(symbolizer)
    }

    /// Reads the mappings again (after a `dlopen` or an exec).
    pub fn refresh(&mut self) -> Result<(), TargetError> {
        let mappings = maps::read(self.pid)?;
        let found = target::modules(self.pid, &mappings, &mut Vec::new());
        let before: Vec<_> = self
            .modules
            .iter()
            .map(|m| (m.module.inode, m.module.bias))
            .collect();
        let now: Vec<_> = found.iter().map(|m| (m.inode, m.bias)).collect();
        if before.iter().any(|old| !now.contains(old)) {
            // addresses may mean something else now
            self.cache.clear();
        }
        for module in found {
            if !before.contains(&(module.inode, module.bias)) {
                let file = File::open(&module.file).ok();
                module.elf.release();
                self.modules.push(Mapped { module, file });
            }
        }
        self.modules
            .retain(|m| now.contains(&(m.module.inode, m.module.bias)));
        self.modules.sort_by_key(|m| m.module.start);
        Ok(())
    }

    /// Names a stack, innermost first. All addresses are return addresses, but the first is the
    /// interrupted instruction itself if `exact_first`. Inlined functions become frames of their own.
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
            // a return address may be the next line's, or the next function's
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
        self.trim();
        Site {
            id,
            stack: stack.into(),
            truncated,
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
        let mapped = after.checked_sub(1).map(|index| &self.modules[index]);
        let Some(mapped) = mapped.filter(|m| address < m.module.end) else {
            return vec![unknown("[anonymous]", address)];
        };
        let module = &mapped.module;
        let svma = address.wrapping_sub(module.bias);
        let blazesym = self.blazesym.get_or_insert_with(|| new_blazesym(self.pid));
        let source = Source::Elf(source::Elf::new(path_of(mapped)));
        match blazesym.symbolize_single(&source, Input::VirtOffset(svma)) {
            Ok(Symbolized::Sym(symbol)) => expand(module, &symbol),
            Ok(Symbolized::Unknown(_)) => vec![unnamed(module, svma)],
            Err(error) => {
                tracing::debug!(module = module.name, %error, "symbolization");
                vec![unnamed(module, svma)]
            }
        }
    }

    /// Keeps the agent small: blazesym keeps every unit it has parsed, and maps whole debug files.
    fn trim(&mut self) {
        if self.blazesym.is_some() && resident() > MAX_RESIDENT {
            self.blazesym = None;
        }
    }

    /// Drops everything that can be made again.
    pub fn release(&mut self) {
        self.blazesym = None;
    }
}

/// Debug files are looked for here and in the target's own root.
fn new_blazesym(pid: u32) -> blazesym::symbolize::Symbolizer {
    let here = ["/usr/lib/debug", "/lib/debug"].map(PathBuf::from);
    let there = PathBuf::from(format!("/proc/{pid}/root/usr/lib/debug"));
    blazesym::symbolize::Symbolizer::builder()
        .enable_auto_reload(false)
        .set_debug_dirs(Some(here.into_iter().chain([there])))
        .build()
}

/// A path that works even after the process has ended.
fn path_of(mapped: &Mapped) -> PathBuf {
    let path: &Path = &mapped.module.file;
    match &mapped.file {
        Some(file) if path.starts_with("/proc") => {
            PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
        }
        _ => path.to_path_buf(),
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|p| p.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// A symbol and what was inlined into it, innermost first.
fn expand(module: &Module, symbol: &Sym<'_>) -> Vec<Frame> {
    let outer = (symbol.name.as_ref(), symbol.code_info.as_deref());
    let inlined = symbol
        .inlined
        .iter()
        .map(|f| (f.name.as_ref(), f.code_info.as_ref()));
    let mut enclosing: Option<String> = None;
    let mut frames: Vec<Frame> = std::iter::once(outer)
        .chain(inlined)
        .map(|(name, code)| {
            let mut function = normalise(name);
            // with line tables only, a closure that was inlined has no path: it lies in its caller
            if function.starts_with('{')
                && let Some(enclosing) = &enclosing
            {
                function.clone_from(enclosing);
            }
            enclosing = Some(function.clone());
            frame(module, function, code)
        })
        .collect();
    frames.reverse();
    frames
}

fn frame(module: &Module, function: String, code: Option<&CodeInfo<'_>>) -> Frame {
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned());
    let kind = classify(&Origin {
        function: Some(&function),
        file: file.as_deref(),
        module: &module.path,
        main: module.main,
        described: is_described(module),
    });
    let line = code.and_then(|code| code.line);
    Frame {
        function,
        file,
        line,
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

fn unknown(module: &str, address: u64) -> Frame {
    Frame {
        function: format!("{module}+{address:#x}"),
        file: None,
        line: None,
        module: module.to_string(),
        kind: crate::events::FrameKind::Unknown,
    }
}
