//! The workspace's crates as module trees, read from manifests and files as the compiler finds
//! them. Test modules are omitted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use syn::{Expr, Item, ItemMod, Lit, Meta};

use super::mentions::{self, Mentions};

/// A crate: a package's library or program.
#[derive(Debug)]
pub(super) struct Crate {
    /// The package's name.
    pub(super) package: String,
    /// `lib` or `main`.
    pub(super) kind: &'static str,
    /// Its first module, by number.
    pub(super) root: usize,
}

/// A module.
#[derive(Debug)]
pub(super) struct Module {
    /// Its crate, by number.
    pub(super) krate: usize,
    pub(super) parent: Option<usize>,
    /// Its path in the crate; empty for the root.
    pub(super) path: Vec<String>,
    /// Its file, relative to the workspace.
    pub(super) file: String,
    pub(super) children: BTreeMap<String, usize>,
    /// Names that it defines.
    pub(super) items: BTreeSet<String>,
    pub(super) mentions: Mentions,
}

/// All crates of a workspace and all their modules.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) crates: Vec<Crate>,
    pub(super) modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Option<Workspace>,
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Workspace {
    members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

impl Tree {
    /// Reads the workspace in a folder.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let workspace = manifest(root)?
            .workspace
            .context("the manifest has no workspace")?;
        let mut tree = Self::default();
        for member in workspace.members {
            let package = manifest(&root.join(&member))?
                .package
                .with_context(|| format!("{member} is not a package"))?;
            for kind in ["lib", "main"] {
                let file = PathBuf::from(format!("{member}/src/{kind}.rs"));
                if root.join(&file).is_file() {
                    tree.read_crate(root, &package.name, kind, &file)?;
                }
            }
        }
        Ok(tree)
    }

    /// Whether a package has a module, or a crate of that kind (`lib`, `main`).
    pub(super) fn has(&self, package: &str, path: &[String]) -> bool {
        self.modules.iter().any(|module| {
            let krate = &self.crates[module.krate];
            krate.package == package && (module.path == path || path == [krate.kind])
        })
    }

    /// Name of a module in messages.
    pub(super) fn name(&self, module: usize) -> String {
        let module = &self.modules[module];
        let package = &self.crates[module.krate].package;
        if module.path.is_empty() {
            package.clone()
        } else {
            format!("{package}'s module {}", module.path.join("::"))
        }
    }

    fn read_crate(
        &mut self,
        root: &Path,
        package: &str,
        kind: &'static str,
        file: &Path,
    ) -> Result<()> {
        let krate = self.crates.len();
        self.crates.push(Crate {
            package: package.to_owned(),
            kind,
            root: self.modules.len(),
        });
        let folder = file.parent().context("a file without a folder")?;
        let place = Place {
            workspace: root,
            file,
            folder: folder.to_path_buf(),
        };
        self.read_file(&place, krate, None, &[])?;
        Ok(())
    }

    fn read_file(
        &mut self,
        place: &Place<'_>,
        krate: usize,
        parent: Option<usize>,
        path: &[String],
    ) -> Result<usize> {
        let name = place.file.display();
        let text = fs::read_to_string(place.workspace.join(place.file))
            .with_context(|| format!("cannot read {name}"))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {name}"))?;
        self.read_items(place, krate, parent, path, &parsed.items)
    }

    fn read_items(
        &mut self,
        place: &Place<'_>,
        krate: usize,
        parent: Option<usize>,
        path: &[String],
        items: &[Item],
    ) -> Result<usize> {
        let number = self.modules.len();
        let mut module = Module {
            krate,
            parent,
            path: path.to_vec(),
            file: place.file.display().to_string(),
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            mentions: Mentions::default(),
        };
        for item in items {
            if !mentions::is_test(mentions::attributes(item)) {
                module.mentions.add(item);
                module.items.extend(mentions::names(item));
            }
        }
        self.modules.push(module);
        for item in items {
            let Item::Mod(child) = item else { continue };
            if mentions::is_test(&child.attrs) {
                continue;
            }
            let name = mentions::word(&child.ident);
            let mut path = path.to_vec();
            path.push(name.clone());
            let child = self.read_module(place, krate, number, &path, child)?;
            self.modules[number].children.insert(name, child);
        }
        Ok(number)
    }

    fn read_module(
        &mut self,
        place: &Place<'_>,
        krate: usize,
        parent: usize,
        path: &[String],
        module: &ItemMod,
    ) -> Result<usize> {
        let name = mentions::word(&module.ident);
        if let Some((_, items)) = &module.content {
            let place = Place {
                folder: place.folder.join(name),
                ..*place
            };
            return self.read_items(&place, krate, Some(parent), path, items);
        }
        let candidates = match written_path(module) {
            Some(written) => {
                let beside = place.file.parent().context("a file without a folder")?;
                vec![beside.join(written)]
            }
            None => vec![
                place.folder.join(format!("{name}.rs")),
                place.folder.join(&name).join("mod.rs"),
            ],
        };
        let found = candidates
            .iter()
            .find(|file| place.workspace.join(file).is_file());
        let Some(file) = found else {
            bail!("{}: no file for `mod {name}`", place.file.display());
        };
        let place = Place {
            workspace: place.workspace,
            file,
            folder: place.folder.join(&name),
        };
        self.read_file(&place, krate, Some(parent), path)
    }
}

/// Where to read a module.
struct Place<'a> {
    workspace: &'a Path,
    /// Its file, relative to the workspace.
    file: &'a Path,
    /// The folder of its child modules.
    folder: PathBuf,
}

fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// The path in `#[path = "..."]`.
fn written_path(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        match &pair.value {
            Expr::Lit(literal) if pair.path.is_ident("path") => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        }
    })
}
