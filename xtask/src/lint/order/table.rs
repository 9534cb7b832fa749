//! The table of stages in ARCHITECTURE.md: the modules of each stage, and the stages from which it may
//! import.
//!
//! A row has a crate, its modules (`lib` and `main` are those without another row; `all` means every
//! one), its job, and what it may use: names of modules in the same crate, of crates, or of modules of
//! crates (`heaptide-judge::report`); `nothing`; or `all above`. Text after a `;` is a remark. A row
//! may use only rows above it, so the stages are ordered by construction.

use anyhow::{Context as _, Result, bail};

/// The first cells of the table's head.
const HEAD: &[&str] = &["crate", "modules", "job", "may use"];

/// A row: a stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) package: String,
    /// Its modules, as paths; empty for all of the crate's.
    pub(super) modules: Vec<Vec<String>>,
    /// The last cell, as written.
    pub(super) written: String,
    grants: Vec<Grant>,
}

/// An entry of the last cell.
#[derive(Debug)]
struct Grant {
    package: String,
    /// Empty for the whole crate.
    path: Vec<String>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    stages: Vec<Stage>,
}

impl Table {
    /// Parses the table in a Markdown text.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut rows = text
            .lines()
            .map(cells)
            .skip_while(|cells| !cells.iter().eq(HEAD))
            .skip(1)
            .take_while(|cells| !cells.is_empty());
        rows.next()
            .with_context(|| format!("no table with the columns {}", HEAD.join(", ")))?;
        let mut table = Self { stages: Vec::new() };
        for row in rows {
            let stage = table
                .stage(&row)
                .with_context(|| format!("the row `{}`", row.join(" | ")))?;
            table.stages.push(stage);
        }
        Ok(table)
    }

    fn stage(&self, row: &[&str]) -> Result<Stage> {
        let [package, modules, _job, may_use] = row else {
            bail!("{} cells, not {}", row.len(), HEAD.len());
        };
        let package = names(package)?.pop().context("names no crate")?.to_owned();
        let modules: Vec<Vec<String>> = match *modules {
            "all" => Vec::new(),
            modules => names(modules)?.into_iter().map(path).collect(),
        };
        let written = may_use.split(';').next().unwrap_or_default().trim();
        let grants = match written {
            "nothing" => Vec::new(),
            "all above" => self.all(),
            written => names(written)?
                .into_iter()
                .map(|name| self.grant(&package, name))
                .collect::<Result<_>>()?,
        };
        for module in &modules {
            if self
                .of(&package, "", module)
                .is_some_and(|above| above.modules.contains(module))
            {
                bail!("{} has a row already", module.join("::"));
            }
        }
        Ok(Stage {
            package,
            modules,
            written: written.to_owned(),
            grants,
        })
    }

    fn all(&self) -> Vec<Grant> {
        let whole = |stage: &Stage| {
            let paths = match stage.modules.as_slice() {
                [] => vec![Vec::new()],
                modules => modules.to_vec(),
            };
            let package = stage.package.clone();
            paths.into_iter().map(move |path| Grant {
                package: package.clone(),
                path,
            })
        };
        self.stages.iter().flat_map(whole).collect()
    }

    fn grant(&self, own: &str, name: &str) -> Result<Grant> {
        let (package, module) = match name.split_once("::") {
            _ if self.stages.iter().any(|stage| stage.package == name) && name != own => (name, ""),
            Some((package, module)) if self.has(package, module) => (package, module),
            _ => (own, name),
        };
        if !module.is_empty() && !self.has(package, module) {
            bail!("no row above has `{name}`");
        }
        Ok(Grant {
            package: package.to_owned(),
            path: if module.is_empty() {
                Vec::new()
            } else {
                path(module)
            },
        })
    }

    fn has(&self, package: &str, module: &str) -> bool {
        let module = path(module);
        self.stages
            .iter()
            .any(|stage| stage.package == package && stage.modules.contains(&module))
    }

    /// Every module that the table names: its package and its path.
    pub(super) fn modules(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.stages.iter().flat_map(|stage| {
            let package = stage.package.as_str();
            stage
                .modules
                .iter()
                .map(move |path| (package, path.as_slice()))
        })
    }

    /// The stage of a module: the row with the longest prefix of its path, or else its crate's kind.
    pub(super) fn of(&self, package: &str, kind: &str, module: &[String]) -> Option<&Stage> {
        let (_, stage) = self
            .stages
            .iter()
            .filter(|stage| stage.package == package)
            .filter_map(|stage| Some((stage.holds(kind, module)?, stage)))
            .max_by_key(|(length, _)| *length)?;
        Some(stage)
    }
}

impl Stage {
    /// Length of the module's path that the row names; `None` if the row does not cover it.
    fn holds(&self, kind: &str, module: &[String]) -> Option<usize> {
        if self.modules.is_empty() {
            return Some(0);
        }
        let named = |path: &Vec<String>| {
            if path.as_slice() == [kind] {
                Some(0)
            } else {
                module.starts_with(path).then_some(path.len())
            }
        };
        self.modules.iter().filter_map(named).max()
    }

    /// Whether it may use a module of another stage.
    pub(super) fn may_use(&self, other: &Stage, module: &[String]) -> bool {
        self.grants.iter().any(|grant| {
            grant.package == other.package
                && (module.starts_with(&grant.path) || other.modules.contains(&grant.path))
        })
    }

    /// Name of the row in messages.
    pub(super) fn name(&self) -> String {
        let modules: Vec<String> = self.modules.iter().map(|path| path.join("::")).collect();
        if modules.is_empty() {
            self.package.clone()
        } else {
            format!("{} ({})", self.package, modules.join(", "))
        }
    }
}

/// The cells of a table row; empty for any other line.
fn cells(line: &str) -> Vec<&str> {
    let inner = line
        .trim()
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'));
    inner.map_or_else(Vec::new, |inner| inner.split('|').map(str::trim).collect())
}

/// The names of a cell such as "`a`, `b`".
fn names(cell: &str) -> Result<Vec<&str>> {
    cell.split(',')
        .map(|name| {
            name.trim()
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix('`'))
                .with_context(|| format!("`{cell}` is not a list of names in backticks"))
        })
        .collect()
}

fn path(name: &str) -> Vec<String> {
    name.split("::").map(str::to_owned).collect()
}
