//! The ELF files that a process has mapped.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    elf::{self, Elf},
    files::{Budget, caps},
    identity,
    maps::{self, Mapping},
};

/// A mapped ELF file of the target.
#[derive(Clone, Debug)]
pub struct Module {
    /// Path in the target's root.
    pub path: String,
    /// Base name.
    pub name: String,
    /// Path under which the agent can open this file.
    pub file: PathBuf,
    /// Device and inode: a file that is mapped twice is one module.
    pub inode: (u64, u64),
    /// Difference between memory addresses and addresses in the file.
    pub bias: u64,
    /// Lowest mapped address.
    pub start: u64,
    /// End of the highest mapping.
    pub end: u64,
    /// It is the main executable.
    pub main: bool,
    /// The file is gone from its path; `file` is valid while the process lives.
    pub deleted: bool,
    /// The parsed file, shared with the results of the inspection.
    pub elf: Arc<Elf>,
}

/// The ELF files among the mappings.
pub fn modules(pid: u32, mappings: &[Mapping], limitations: &mut Vec<String>) -> Vec<Module> {
    modules_on(pid, mappings, &Budget::full(), limitations)
}

/// The same with a shared budget for walks over their tables.
pub(crate) fn modules_on(
    pid: u32,
    mappings: &[Mapping],
    budget: &Arc<Budget>,
    limitations: &mut Vec<String>,
) -> Vec<Module> {
    let exe_inode = identity::exe_inode(pid);
    let mut files: BTreeMap<(u64, u64), Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|m| m.inode != 0) {
        files
            .entry((mapping.dev, mapping.inode))
            .or_default()
            .push(mapping);
    }
    let mut found = Vec::new();
    for (inode, parts) in files {
        let Some(code) = parts.iter().find(|m| m.executable) else {
            continue;
        };
        if found.len() == caps::MODULES || !budget.take(0) {
            limitations.push(format!(
                "it has more mapped files with code than heaptide reads per process: {} and \
                 others are not seen",
                code.path
            ));
            break;
        }
        let file = maps::openable(pid, code);
        let elf = match Elf::open_on(&file, budget.clone()) {
            Ok(elf) => Arc::new(elf),
            // not a module: JIT code or a data file that is mapped executable
            Err(elf::ElfError::NotElf { .. }) => continue,
            Err(error) => {
                limitations.push(format!("functions of {} are not seen: {error}", code.path));
                continue;
            }
        };
        let Some(bias) = elf.bias(code) else { continue };
        let first = parts.iter().find(|m| m.offset == 0).unwrap_or(code);
        found.push(Module {
            name: code
                .path
                .rsplit('/')
                .next()
                .unwrap_or(&code.path)
                .to_string(),
            path: code.path.clone(),
            file,
            inode,
            bias,
            start: parts.iter().map(|m| m.start).min().unwrap_or(first.start),
            end: parts.iter().map(|m| m.end).max().unwrap_or(first.end),
            main: exe_inode.map_or(
                mappings
                    .first()
                    .is_some_and(|lowest| first.start == lowest.start),
                |exe| elf.file().identity() == exe,
            ),
            deleted: code.deleted,
            elf,
        });
    }
    // overlayfs reports other numbers for the mapped file
    if let Some(exe) = exe_inode
        && found.iter().all(|m| !m.main)
    {
        for module in &mut found {
            let mapped = mappings.iter().find(|m| (m.dev, m.inode) == module.inode);
            module.main = mapped.is_some_and(|m| maps::inode_of(pid, m) == Some(exe));
        }
    }
    found.sort_by_key(|m| (!m.main, m.start));
    found
}
