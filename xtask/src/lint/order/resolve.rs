//! Which module a path leads to: through children, imports, re-exports and globs, as the compiler goes.

use super::tree::Tree;

/// Imports of imports of imports: nobody writes more, and a chain that goes in a circle ends.
const DEPTH: usize = 16;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The module that the path names, before re-exports are followed.
    pub(super) named: usize,
    /// The module that defines the thing.
    pub(super) defined: usize,
    /// Whether the path is that of the module itself, not of something in it.
    pub(super) is_module: bool,
}

/// Where a path in a module leads; `None` when out of the workspace.
pub(super) fn resolve(tree: &Tree, module: usize, words: &[String]) -> Option<Place> {
    resolve_within(tree, module, words, DEPTH)
}

fn resolve_within(tree: &Tree, module: usize, words: &[String], depth: usize) -> Option<Place> {
    let (first, mut rest) = words.split_first()?;
    let depth = depth.checked_sub(1)?;
    let start = match first.as_str() {
        "crate" => tree.crates[tree.modules[module].krate].root,
        "self" => module,
        "super" => {
            let mut start = tree.modules[module].parent?;
            while let Some((first, after)) = rest.split_first()
                && first == "super"
            {
                start = tree.modules[start].parent?;
                rest = after;
            }
            start
        }
        first => {
            return find(tree, module, words, depth).or_else(|| {
                let root = library(tree, first)?;
                Some(walk(tree, root, rest, depth).unwrap_or_else(|| in_it(root)))
            });
        }
    };
    walk(tree, start, rest, depth)
}

/// Where the rest of a path leads from a module that the path has named.
fn walk(tree: &Tree, module: usize, rest: &[String], depth: usize) -> Option<Place> {
    if rest.is_empty() {
        return Some(Place {
            named: module,
            defined: module,
            is_module: true,
        });
    }
    if imported_from_outside(tree, module, &rest[0], depth) {
        return None;
    }
    // What we do not find is made by a macro there.
    Some(find(tree, module, rest, depth).unwrap_or_else(|| in_it(module)))
}

/// Where a path leads that begins with a name in a module.
fn find(tree: &Tree, module: usize, words: &[String], depth: usize) -> Option<Place> {
    let (first, rest) = words.split_first()?;
    let depth = depth.checked_sub(1)?;
    let here = &tree.modules[module];
    if let Some(&child) = here.children.get(first) {
        return walk(tree, child, rest, depth);
    }
    if here.items.contains(first) {
        return Some(in_it(module));
    }
    for import in &here.mentions.imports {
        let leads = if import.is_glob {
            // All of an enum, or all of a module.
            resolve_within(tree, module, &import.mention.words, depth)
                .filter(|from| from.is_module && from.defined != module)
                .and_then(|from| find(tree, from.defined, words, depth))
        } else if import.name.as_ref() == Some(first) && import.mention.words != words {
            let mut path = import.mention.words.clone();
            path.extend_from_slice(rest);
            resolve_within(tree, module, &path, depth)
        } else {
            None
        };
        if let Some(place) = leads {
            return Some(Place {
                named: module,
                ..place
            });
        }
    }
    None
}

/// Whether a name in a module is an import from another workspace's crate.
fn imported_from_outside(tree: &Tree, module: usize, name: &str, depth: usize) -> bool {
    let here = &tree.modules[module];
    !here.children.contains_key(name)
        && !here.items.contains(name)
        && here.mentions.imports.iter().any(|import| {
            import.name.as_deref() == Some(name)
                && resolve_within(tree, module, &import.mention.words, depth).is_none()
        })
}

fn in_it(module: usize) -> Place {
    Place {
        named: module,
        defined: module,
        is_module: false,
    }
}

/// The root module of the library that code calls by a name.
fn library(tree: &Tree, name: &str) -> Option<usize> {
    tree.crates
        .iter()
        .find(|krate| krate.kind == "lib" && krate.package.replace('-', "_") == name)
        .map(|krate| krate.root)
}
