//! Debug information that was fetched by build id before: the folder where debuginfod's clients (gdb,
//! `debuginfod-find`) keep what they have downloaded. Nothing is downloaded here.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::Elf;

/// The note's owner and kind.
const OWNER: &[u8] = b"GNU\0";
const BUILD_ID: u32 = 3;

/// The debug file of a module that has no debug information itself.
pub(super) fn fetched(elf: &Elf) -> Option<PathBuf> {
    if elf.section(".debug_info").is_some() {
        return None;
    }
    let section = elf.section(".note.gnu.build-id")?;
    let id = build_id(elf.section_bytes(section)?)?;
    folders()
        .map(|folder| folder.join(&id).join("debuginfo"))
        .find(|path| path.is_file())
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

fn build_id(note: &[u8]) -> Option<String> {
    let number = |at: usize| Some(u32::from_le_bytes(note.get(at..at + 4)?.try_into().ok()?));
    if (number(0)?, number(8)?) != (4, BUILD_ID) || note.get(12..16)? != OWNER {
        return None;
    }
    let id = note.get(16..16usize.checked_add(number(4)? as usize)?)?;
    Some(id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::build_id;

    #[test]
    fn build_ids() {
        let note = b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\xde\xad\x01";
        assert_eq!(build_id(note).as_deref(), Some("dead01"));
        for len in 0..note.len() {
            assert_eq!(build_id(&note[..len]), None);
        }
        assert_eq!(
            build_id(b"\x04\0\0\0\x03\0\0\0\x01\0\0\0GNU\0\xde\xad\x01"),
            None
        );
    }
}
