//! How to read objects, by their types.

use std::sync::Arc;

use heaptide_process::memory::Read;
use rustc_hash::FxHashMap;
use zeroize::Zeroize as _;

use super::layout::Layout;
use super::memory::Pages;

const MANAGED_DICT: u64 = 1 << 4;
const INLINE_VALUES: u64 = 1 << 2;
const IMMUTABLE: u64 = 1 << 8;
const HEAP: u64 = 1 << 9;
const READY: u64 = 1 << 12;
const HAVE_GC: u64 = 1 << 14;
const LONG: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;
const STR: u64 = 1 << 28;
const DICT: u64 = 1 << 29;
const TYPE: u64 = 1 << 31;

/// Upper bound of `tp_basicsize`.
const MAX_BASIC: u64 = 1 << 20;
/// Maximum bases followed.
const MAX_BASES: usize = 64;
/// Maximum number of cached types.
const MAX_KNOWN: usize = 57_344;

/// How an object holds references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Shape {
    /// It holds no relevant ones.
    Leaf,
    Str,
    Bytes,
    Int,
    Dict,
    List,
    Tuple,
    Set,
    Deque,
    LruCache,
    Module,
    Type,
    Function,
    Generator,
    /// `threading.local`.
    ThreadLocal,
    Code,
    /// Weak references.
    Weak,
    /// Any other: the words of its structure that are addresses of objects.
    Fields,
}

/// Properties of a type.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one flag of tp_flags, in any combination"
)]
pub(super) struct TypeInfo {
    pub(super) shape: Shape,
    /// Its instances are tracked by the collector.
    pub(super) gc: bool,
    /// A class of the program, not of the interpreter or a C extension.
    pub(super) class: bool,
    /// Starlette's `State`: its attributes are entries of its own dictionary.
    pub(super) state: bool,
    pub(super) managed: bool,
    pub(super) inline_values: bool,
    pub(super) basicsize: u64,
    /// Offset of the instance dictionary; 0: none, -1: managed.
    pub(super) dictoffset: i64,
    pub(super) base: u64,
}

/// Types seen in this census; `None` for addresses without a type.
pub(super) struct Types {
    layout: Arc<Layout>,
    known: FxHashMap<u64, Option<TypeInfo>>,
}

impl Types {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            known: FxHashMap::default(),
        }
    }

    /// The type of the object at an address; `None` if there is no object.
    pub(super) fn of<R: Read>(&mut self, pages: &mut Pages<R>, object: u64) -> Option<TypeInfo> {
        if object & 7 != 0 || object < 4096 {
            return None;
        }
        let address = pages.field(object, self.layout.ob_type)?;
        self.at(pages, address)
    }

    /// The type at an address.
    pub(super) fn at<R: Read>(&mut self, pages: &mut Pages<R>, address: u64) -> Option<TypeInfo> {
        if address & 7 != 0 || address < 4096 {
            return None;
        }
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let info = self.look(pages, address, 0);
        // Beyond that types are read again each time; no program has so many.
        if self.known.len() < MAX_KNOWN {
            self.known.insert(address, info);
        }
        info
    }

    fn look<R: Read>(
        &mut self,
        pages: &mut Pages<R>,
        address: u64,
        depth: usize,
    ) -> Option<TypeInfo> {
        let layout = self.layout();
        let meta = pages.field(address, layout.ob_type)?;
        if meta & 7 != 0 || meta < 4096 || pages.field(meta, layout.tp_flags)? & TYPE == 0 {
            return None;
        }
        let flags = pages.field(address, layout.tp_flags)?;
        let basicsize = pages.field(address, layout.tp_basicsize)?;
        let itemsize = pages.field(address, layout.tp_itemsize)?;
        let plausible = flags & READY != 0
            && flags >> 40 == 0
            && (16..=MAX_BASIC).contains(&basicsize)
            && itemsize <= MAX_BASIC;
        if !plausible {
            return None;
        }
        let base = pages.field(address, layout.tp_base)?;
        let class = flags & HEAP != 0 && flags & IMMUTABLE == 0;
        let shape = if class && base != 0 && depth < MAX_BASES {
            let base = match self.known.get(&base) {
                Some(known) => *known,
                None => self.look(pages, base, depth + 1),
            }?;
            match (base.shape, flags & HAVE_GC != 0) {
                // `object` has no references, but its subclasses have
                (Shape::Leaf, true) => Shape::Fields,
                (shape, _) => shape,
            }
        } else {
            Self::builtin(pages, &layout, address, flags)?
        };
        Some(TypeInfo {
            shape,
            gc: flags & HAVE_GC != 0,
            class,
            state: class && is_named(pages, &layout, address, "State"),
            managed: flags & MANAGED_DICT != 0,
            inline_values: flags & INLINE_VALUES != 0,
            basicsize,
            dictoffset: pages.field(address, layout.tp_dictoffset)? as i64,
            base,
        })
    }

    fn builtin<R: Read>(
        pages: &mut Pages<R>,
        layout: &Layout,
        address: u64,
        flags: u64,
    ) -> Option<Shape> {
        let by_flag = [
            (STR, Shape::Str),
            (BYTES, Shape::Bytes),
            (LONG, Shape::Int),
            (DICT, Shape::Dict),
            (LIST, Shape::List),
            (TUPLE, Shape::Tuple),
            (TYPE, Shape::Type),
        ];
        if let Some((_, shape)) = by_flag.iter().find(|(flag, _)| flags & flag != 0) {
            return Some(*shape);
        }
        let name = pages.field(address, layout.tp_name)?;
        let name = c_string(pages, name)?;
        Some(match name.as_str() {
            "set" | "frozenset" => Shape::Set,
            "collections.deque" => Shape::Deque,
            "functools._lru_cache_wrapper" => Shape::LruCache,
            "module" => Shape::Module,
            "function" => Shape::Function,
            "generator" | "coroutine" | "async_generator" => Shape::Generator,
            "_thread._local" => Shape::ThreadLocal,
            "code" => Shape::Code,
            // a frame object's frame is visited with its thread
            "frame" | "traceback" | "builtin_function_or_method" => Shape::Leaf,
            name if name.contains("weakref") || name.contains("weakproxy") => Shape::Weak,
            _ if flags & HAVE_GC != 0 => Shape::Fields,
            _ => Shape::Leaf,
        })
    }

    /// The layout in use.
    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout)
    }
}

/// Whether a type has this name.
fn is_named<R: Read>(pages: &mut Pages<R>, layout: &Layout, address: u64, name: &str) -> bool {
    let at = pages.field(address, layout.tp_name);
    at.and_then(|at| c_string(pages, at)).as_deref() == Some(name)
}

/// The name of a type defined in C.
pub(super) fn c_string<R: Read>(pages: &mut Pages<R>, address: u64) -> Option<String> {
    const MAX: u64 = 64;
    let mut bytes = [0; MAX as usize];
    // not across the page end: the next page may not exist
    let here = (4096 - (address & 4095)).min(MAX) as usize;
    if !pages.raw(address, &mut bytes[..here]) {
        return None;
    }
    if !bytes[..here].contains(&0) && here < bytes.len() {
        let rest = bytes.get_mut(here..)?;
        if !pages.raw(address + here as u64, rest) {
            return None;
        }
    }
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    // data after the name must not stay in memory
    bytes[end..].zeroize();
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())).then(|| name.to_string())
}
