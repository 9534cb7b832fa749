//! Debug information that was fetched by build id before: the folder where debuginfod's clients (gdb,
//! `debuginfod-find`) keep what they have downloaded. Nothing is downloaded here.

use std::env;
use std::path::PathBuf;

use crate::{Elf, files};

/// The debug file of a module that has no debug information itself.
pub(super) fn fetched(elf: &Elf) -> Option<PathBuf> {
    if elf.section(".debug_info").is_some() {
        return None;
    }
    let id = elf.build_id()?;
    folders()
        .map(|folder| folder.join(&id).join("debuginfo"))
        .find(|path| files::is_file(path))
}

/// Where clients of debuginfod keep files, in the order in which they look.
fn folders() -> impl Iterator<Item = PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let home = |path: &str| set("HOME").map(|home| PathBuf::from(home).join(path));
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    [
        set("DEBUGINFOD_CACHE_PATH").map(PathBuf::from),
        cache
            .or_else(|| home(".cache"))
            .map(|folder| folder.join("debuginfod_client")),
        home(".debuginfod_client_cache"),
    ]
    .into_iter()
    .flatten()
}
