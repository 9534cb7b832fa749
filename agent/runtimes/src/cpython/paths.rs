//! Paths to objects, kept as steps with addresses of names. Only those of reported containers are
//! spelled out.

use heaptide_process::memory::Read;
use rustc_hash::FxHashMap;
use zeroize::Zeroize as _;

use super::layout::Layout;
use super::memory::Pages;
use super::types::{Shape, Types};

/// Maximum steps of a path; deeper objects share one step.
const MAX_DEPTH: u8 = 10;
/// Nesting depth of containers that is distinguished.
const MAX_INDEXES: u8 = 2;
/// Maximum steps per census.
const MAX_STEPS: usize = 229_376;
/// Maximum length of a name.
const MAX_NAME: u64 = 48;

/// One step. The numbers are addresses of `str` or code objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Edge {
    /// A key of `sys.modules`.
    Module(u64),
    /// A frame of this code in a thread or generator.
    Frame(u64),
    /// A name in a module, a class or an instance.
    Name(u64),
    /// Any entry of a container; the key would be data.
    Index,
    /// A captured variable of a function.
    Closure(u64),
    /// A default value of a parameter.
    Default,
    /// A namespace with so many keys that they cannot be names.
    Namespace,
    /// Below the maximum depth.
    Deep,
}

#[derive(Clone, Copy, Debug)]
struct PathStep {
    parent: u32,
    edge: Edge,
    depth: u8,
    indexes: u8,
    sampled: bool,
    key: u64,
}

/// All paths of one census, as a tree.
pub(super) struct Paths {
    steps: Vec<PathStep>,
    children: FxHashMap<(u32, Edge), u32>,
}

/// The parent step of all roots.
pub(super) const ROOT: u32 = 0;

impl Paths {
    pub(super) fn new() -> Self {
        Self {
            steps: vec![PathStep {
                parent: 0,
                edge: Edge::Deep,
                depth: 0,
                indexes: 0,
                sampled: false,
                key: 0,
            }],
            children: FxHashMap::default(),
        }
    }

    /// The step for `edge` below `parent`.
    pub(super) fn child(&mut self, parent: u32, edge: Edge) -> u32 {
        let Some(from) = self.steps.get(parent as usize).copied() else {
            return parent;
        };
        let indexes = from.indexes + u8::from(edge == Edge::Index);
        if from.edge == Edge::Deep && parent != ROOT || indexes > MAX_INDEXES {
            return parent;
        }
        let edge = if from.depth >= MAX_DEPTH {
            Edge::Deep
        } else {
            edge
        };
        if let Some(child) = self.children.get(&(parent, edge)) {
            return *child;
        }
        if self.steps.len() >= MAX_STEPS {
            return parent;
        }
        let child = self.steps.len() as u32;
        self.steps.push(PathStep {
            parent,
            edge,
            depth: from.depth + 1,
            indexes,
            sampled: from.sampled,
            key: mix(from.key, edge),
        });
        self.children.insert((parent, edge), child);
        child
    }

    /// Only a sample of the entries below this step is visited, so counts there are not totals.
    pub(super) fn mark_sampled(&mut self, step: u32) {
        if let Some(step) = self.steps.get_mut(step as usize) {
            step.sampled = true;
        }
    }

    /// Whether counts below this step are totals.
    pub(super) fn total(&self, step: u32) -> bool {
        self.steps.get(step as usize).is_some_and(|s| !s.sampled)
    }

    /// Whether it is within a container.
    pub(super) fn within(&self, step: u32) -> bool {
        self.steps.get(step as usize).is_some_and(|s| s.indexes > 0)
    }

    /// Equal in all censuses for the same path.
    pub(super) fn key(&self, step: u32) -> u64 {
        self.steps.get(step as usize).map_or(0, |s| s.key)
    }

    /// Spells out a path.
    pub(super) fn spell<R: Read>(
        &self,
        pages: &mut Pages<R>,
        types: &mut Types,
        step: u32,
    ) -> String {
        let mut edges = Vec::new();
        let mut at = step;
        while at != ROOT {
            let Some(step) = self.steps.get(at as usize) else {
                break;
            };
            edges.push(step.edge);
            at = step.parent;
        }
        let mut path = String::new();
        for edge in edges.into_iter().rev() {
            let part = match edge {
                Edge::Module(name) => {
                    module_name(pages, types, name).unwrap_or_else(|| "<module>".to_string())
                }
                Edge::Frame(code) => frame_name(pages, types, code),
                Edge::Name(name) => match name_of(pages, types, name) {
                    Some(name) => format!(".{name}"),
                    None => "[]".to_string(),
                },
                Edge::Index => "[]".to_string(),
                Edge::Closure(name) => match name_of(pages, types, name) {
                    Some(name) => format!(".<closure>.{name}"),
                    None => ".<closure>".to_string(),
                },
                Edge::Default => ".<default>".to_string(),
                Edge::Namespace => ".__dict__".to_string(),
                Edge::Deep => ".…".to_string(),
            };
            path.push_str(&part);
        }
        path.trim_start_matches('.').to_string()
    }
}

fn mix(key: u64, edge: Edge) -> u64 {
    let (tag, name) = match edge {
        Edge::Module(name) => (1, name),
        Edge::Frame(code) => (2, code),
        Edge::Name(name) => (4, name),
        Edge::Index => (5, 0),
        Edge::Closure(name) => (6, name),
        Edge::Default => (7, 0),
        Edge::Namespace => (8, 0),
        Edge::Deep => (9, 0),
    };
    // splitmix64's finaliser over all three
    let mut x = key.rotate_left(17) ^ name ^ (tag << 56);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The flags of a `str`. They are read separately: the bytes after them are uninitialised, and text
/// there would cause the flags to be blanked.
pub(super) fn str_state<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    object: u64,
) -> Option<u32> {
    let mut state = [0; 4];
    pages
        .raw(object.wrapping_add(layout.str_state), &mut state)
        .then(|| u32::from_le_bytes(state))
}

/// The characters of an ASCII `str` of at most `max` characters.
pub(super) fn text<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    object: u64,
    max: u64,
) -> Option<String> {
    if types.of(pages, object)?.shape != Shape::Str {
        return None;
    }
    let layout = types.layout();
    let len = pages.field(object, layout.str_length)?;
    let state = str_state(pages, &layout, object)?;
    let wanted = layout.str_compact | layout.str_ascii;
    if len == 0 || len > max || state & wanted != wanted {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    if !pages.raw(object.wrapping_add(layout.str_ascii_data), &mut bytes) {
        return None;
    }
    String::from_utf8(bytes).ok().filter(|text| text.is_ascii())
}

/// The name in a `str`, if it is a plausible identifier.
pub(super) fn name_of<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    object: u64,
) -> Option<String> {
    let name = text(pages, types, object, MAX_NAME)?;
    name_or_nothing(name, is_name)
}

/// Anything else could be a credential, which must not stay in the agent's memory.
fn name_or_nothing(mut text: String, is_name: impl Fn(&str) -> bool) -> Option<String> {
    if is_name(&text) {
        return Some(text);
    }
    text.zeroize();
    None
}

fn module_name<R: Read>(pages: &mut Pages<R>, types: &mut Types, object: u64) -> Option<String> {
    let name = text(pages, types, object, 2 * MAX_NAME)?;
    name_or_nothing(name, |name| name.split('.').all(is_name))
}

/// `file.function.<locals>`: the path prefix of a frame's variables.
fn frame_name<R: Read>(pages: &mut Pages<R>, types: &mut Types, code: u64) -> String {
    let (file, function) = code_names(pages, types, code);
    let stem = file
        .as_deref()
        .and_then(|file| file.rsplit('/').next())
        .map_or("<file>", |base| base.trim_end_matches(".py"));
    let function = function.as_deref().unwrap_or("<function>");
    format!("{stem}.{function}.<locals>")
}

/// File and qualified name of a code object.
pub(super) fn code_names<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    code: u64,
) -> (Option<String>, Option<String>) {
    let layout = types.layout();
    let mut part = |offset| {
        let object = pages.field(code, offset)?;
        text(pages, types, object, 1024)
    };
    (part(layout.code_filename), part(layout.code_name))
}

/// A plausible identifier. A possible credential is rejected, even if a program uses it as an
/// attribute name.
fn is_name(text: &str) -> bool {
    let mut digits = 0;
    let mut turns = 0;
    let mut lower = false;
    for (index, c) in text.chars().enumerate() {
        if !(c.is_ascii_alphabetic() || c == '_' || index > 0 && c.is_ascii_digit()) {
            return false;
        }
        digits += usize::from(c.is_ascii_digit());
        turns += usize::from(lower && c.is_ascii_uppercase());
        lower = c.is_ascii_lowercase();
    }
    !text.is_empty() && digits <= 4 && (digits == 0 || turns < 4) && turns < 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_credentials() {
        for name in [
            "claims_cache",
            "_Cache__data",
            "TTLCache",
            "getHTTPResponseHeaderValue",
            "x",
            "sha256",
            "__main__",
        ] {
            assert!(is_name(name), "{name}");
        }
        for text in [
            "",
            "9lives",
            "eyJhbGciOiJIUzI1NiJ9",
            "d41d8cd98f00b204e9800998ecf8427e",
            "aGVsbG8gd29ybGQgaGVsbG8",
            "sk-live",
            "a b",
            "Ünïcode",
        ] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn deep_paths_end() {
        let mut paths = Paths::new();
        let mut step = paths.child(ROOT, Edge::Module(8));
        for _ in 0..1000 {
            step = paths.child(step, Edge::Name(16));
        }
        assert!(paths.steps.len() < 20);
        let list = paths.child(ROOT, Edge::Module(24));
        let once = paths.child(list, Edge::Index);
        let twice = paths.child(once, Edge::Index);
        assert_eq!(paths.child(twice, Edge::Index), twice);
        assert!(paths.within(once) && !paths.within(list));
        assert_ne!(paths.key(once), paths.key(twice));
        paths.mark_sampled(list);
        let below = paths.child(list, Edge::Name(8));
        assert!(!paths.total(below) && paths.total(step));
    }
}
