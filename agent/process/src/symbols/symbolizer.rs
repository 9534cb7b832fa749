//! Addresses into frames with names, files and lines, by way of blazesym on the mapped files.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blazesym::symbolize::source::{self, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized};

use super::classify::{Origin, classify};
use super::go::GoNames;
use super::names::{has_path, normalise, written_in};
use super::split;
use crate::{
    error::ProcessError,
    maps,
    module::{Module, modules},
};
use heaptide_judge::events::{Frame, FrameKind, Site, SiteId};

/// Addresses whose frames are kept.
const MAX_CACHED: usize = 8192;
/// Bytes that the agent may grow by before blazesym's own caches are dropped.
const MAX_GROWTH: u64 = 16 << 20;

struct Mapped {
    module: Module,
    /// Held open, so that names are still found after the process has ended.
    file: Option<File>,
    /// A Go program names its functions itself.
    go: Option<GoNames>,
    /// Its debug information, where that was fetched before.
    debug: Option<PathBuf>,
}

/// Names the addresses of one process.
pub struct Symbolizer {
    pid: u32,
    modules: Vec<Mapped>,
    blazesym: Option<Blazesym>,
    cache: HashMap<u64, Arc<[Frame]>>,
}

impl Symbolizer {
    /// Reads the mappings of a process.
    pub fn new(pid: u32) -> Result<Self, ProcessError> {
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
    pub fn refresh(&mut self) -> Result<(), ProcessError> {
        let mappings = maps::read(self.pid)?;
        let found = modules(self.pid, &mappings, &mut Vec::new());
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
                let go = GoNames::open(&module, self.pid);
                let debug = split::fetched(&module.elf);
                module.elf.release();
                self.modules.push(Mapped {
                    module,
                    file,
                    go,
                    debug,
                });
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

    /// Names a stack of which each address stands for one frame alone: what was inlined has an address
    /// of its own, as in Go's profiles. All are return addresses.
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
        let mapped = after.checked_sub(1).map(|index| &self.modules[index]);
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
        let blazesym = self.blazesym.get_or_insert_with(|| Blazesym::new(self.pid));
        let mut elf = source::Elf::new(path_of(mapped));
        let source = Source::Elf(elf.clone());
        match blazesym
            .lines
            .symbolize_single(&source, Input::VirtOffset(svma))
        {
            Ok(Symbolized::Sym(symbol)) => {
                // line tables alone name functions without their path, symbols have it
                elf.debug_syms = false;
                let by_symbol = blazesym
                    .names
                    .symbolize_single(&Source::Elf(elf), Input::VirtOffset(svma));
                let full = match &by_symbol {
                    Ok(Symbolized::Sym(full)) if !has_path(&symbol.name) => full.name.as_ref(),
                    _ => symbol.name.as_ref(),
                };
                expand(module, &symbol, full)
            }
            Ok(Symbolized::Unknown(_)) => vec![unnamed(module, svma)],
            Err(error) => {
                tracing::debug!(module = module.name, %error, "symbolization");
                vec![unnamed(module, svma)]
            }
        }
    }

    /// Keeps the agent small: blazesym keeps every unit it has parsed, and maps whole debug files.
    fn trim(&mut self) {
        if self
            .blazesym
            .as_ref()
            .is_some_and(|b| resident() > b.resident + MAX_GROWTH)
        {
            self.release();
        }
    }

    /// Drops everything that can be made again.
    pub fn release(&mut self) {
        self.blazesym = None;
        // SAFETY: malloc_trim only returns free memory of this process to the kernel.
        unsafe { libc::malloc_trim(0) };
    }
}

struct Blazesym {
    /// Debug information, with what was inlined.
    lines: blazesym::symbolize::Symbolizer,
    /// Symbol tables only.
    names: blazesym::symbolize::Symbolizer,
    /// Resident bytes of the agent when it was made.
    resident: u64,
}

impl Blazesym {
    /// Debug files are looked for here and in the target's own root.
    fn new(pid: u32) -> Self {
        let here = ["/usr/lib/debug", "/lib/debug"].map(PathBuf::from);
        let there = PathBuf::from(format!("/proc/{pid}/root/usr/lib/debug"));
        let builder = || blazesym::symbolize::Symbolizer::builder().enable_auto_reload(false);
        Self {
            lines: builder()
                .set_debug_dirs(Some(here.into_iter().chain([there])))
                .build(),
            names: builder()
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .build(),
            resident: resident(),
        }
    }
}

/// A path that works even after the process has ended.
fn path_of(mapped: &Mapped) -> PathBuf {
    if let Some(debug) = &mapped.debug {
        return debug.clone();
    }
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

/// A symbol and what was inlined into it, innermost first; `full` is the symbol's name with path.
fn expand(module: &Module, symbol: &Sym<'_>, full: &str) -> Vec<Frame> {
    let mut frames = vec![frame(module, normalise(full), symbol.code_info.as_deref())];
    let mut enclosing = vec![symbol.name.as_ref()];
    for inlined in &symbol.inlined {
        let mut next = frame(module, normalise(&inlined.name), inlined.code_info.as_ref());
        if next.kind == FrameKind::User
            && let Some(function) = written_in(&inlined.name, &enclosing)
        {
            next.function = function;
        }
        enclosing.push(&inlined.name);
        frames.push(next);
    }
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
        kind: FrameKind::Unknown,
    }
}
