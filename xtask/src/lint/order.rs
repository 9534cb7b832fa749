//! The order of imports: a stage may use only what ARCHITECTURE's table allows, and there must be no
//! import cycle between files of a crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::process::root;
use cycles::Imports;
use mentions::Mention;
use table::Table;
use tree::Tree;

mod cycles;
mod mentions;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod tree;

/// The file with the table.
const TABLE: &str = "ARCHITECTURE.md";

pub(crate) fn check() -> Result<()> {
    let broken = broken(&root())?;
    if !broken.is_empty() {
        bail!("{} found:\n  {}", broken.len(), broken.join("\n  "));
    }
    Ok(())
}

/// Violations in a workspace: imports first, then cycles.
fn broken(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join(TABLE)).context(TABLE)?;
    let table = Table::read(&text).context(TABLE)?;
    let tree = Tree::read(root)?;
    let mut broken = against_the_table(&tree, &table);
    for (package, path) in table.modules() {
        if !tree.has(package, path) {
            let module = path.join("::");
            broken.push(format!("{TABLE}: {package} has no module `{module}`"));
        }
    }
    let imports = imports(&tree);
    let groups = cycles::groups(&imports);
    broken.extend(groups.iter().map(|group| cycles::told(&imports, group)));
    Ok(broken)
}

fn against_the_table(tree: &Tree, table: &Table) -> Vec<String> {
    let mut broken = BTreeSet::new();
    for (number, module) in tree.modules.iter().enumerate() {
        let krate = &tree.crates[module.krate];
        let Some(stage) = table.of(&krate.package, krate.kind, &module.path) else {
            // The root module of a crate may only declare others.
            if !module.path.is_empty() || !module.items.is_empty() {
                broken.insert(format!(
                    "{}: {} has no row in {TABLE}'s table",
                    module.file,
                    tree.name(number)
                ));
            }
            continue;
        };
        for mention in module.mentions.all() {
            let Some(place) = resolve::resolve(tree, number, &mention.words) else {
                continue;
            };
            for target in [place.named, place.defined] {
                let to = &tree.modules[target];
                let package = &tree.crates[to.krate];
                let Some(other) = table.of(&package.package, package.kind, &to.path) else {
                    continue;
                };
                if !std::ptr::eq(stage, other) && !stage.may_use(other, &to.path) {
                    broken.insert(format!(
                        "{}:{}: `{}` is of {}; {} may use {}",
                        module.file,
                        mention.line,
                        mention.words.join("::"),
                        other.name(),
                        stage.name(),
                        stage.written
                    ));
                    break;
                }
            }
        }
    }
    broken.into_iter().collect()
}

/// Imports between files. Naming a module (`use super::table`) is not an import from its file; naming
/// its contents is.
fn imports(tree: &Tree) -> Imports {
    let mut imports = Imports::new();
    for (number, module) in tree.modules.iter().enumerate() {
        let mut add = |mention: &Mention, whole: bool| {
            let Some(place) = resolve::resolve(tree, number, &mention.words) else {
                return;
            };
            let to = &tree.modules[place.defined];
            if (whole || !place.is_module) && to.file != module.file {
                imports
                    .entry(module.file.clone())
                    .or_default()
                    .entry(to.file.clone())
                    .or_insert_with(|| (mention.line, mention.words.join("::")));
            }
        };
        for import in &module.mentions.imports {
            add(&import.mention, import.is_glob);
        }
        for mention in &module.mentions.paths {
            add(mention, false);
        }
    }
    imports
}
