//! `/proc/PID/maps`, and a path under which the agent can open each mapped file.

use std::path::{Path, PathBuf};

use crate::{
    error::ProcessError,
    files::{self, Identity},
    identity,
};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Path in the target's root, or `[heap]` and the like, or empty.
    pub path: String,
    /// Device of the file, `major << 32 | minor`.
    pub dev: u64,
    /// Inode of the file, 0 for anonymous memory.
    pub inode: u64,
    /// It is executable.
    pub executable: bool,
    /// It is writable.
    pub writable: bool,
    /// The file was deleted or replaced.
    pub deleted: bool,
}

/// Reads the mappings.
pub fn read(pid: u32) -> Result<Vec<Mapping>, ProcessError> {
    let bytes = std::fs::read(format!("/proc/{pid}/maps"))
        .map_err(|error| identity::explain(pid, "maps", error))?;
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(parse)
        .collect())
}

fn parse(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let text = rest.trim_start_matches(' ');
        let (field, tail) = text.split_once(' ').unwrap_or((text, ""));
        rest = tail;
        field
    };
    let (start, end) = field().split_once('-')?;
    let access = field();
    let offset = field();
    let (major, minor) = field().split_once(':')?;
    let inode = field().parse().ok()?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let path = rest.trim_start_matches(' ');
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        // the kernel escapes a newline in a name as \012
        path: path.replace("\\012", "\n"),
        dev: hex(major)? << 32 | hex(minor)?,
        inode,
        executable: access.as_bytes().get(2) == Some(&b'x'),
        writable: access.as_bytes().get(1) == Some(&b'w'),
        deleted,
    })
}

fn map_file(pid: u32, mapping: &Mapping) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    ))
}

/// Device and inode of the mapped file as in `stat` (btrfs and overlayfs show other numbers in
/// `maps`). This needs permission for `map_files`.
pub fn inode_of(pid: u32, mapping: &Mapping) -> Option<Identity> {
    files::identity(&map_file(pid, mapping)).or_else(|| files::identity(&openable(pid, mapping)))
}

/// A path that opens the mapped file: its own path if that is the same file (it outlives the
/// process), else through the process's root (containers), else through `map_files` (deleted or
/// replaced).
pub fn openable(pid: u32, mapping: &Mapping) -> PathBuf {
    let link = map_file(pid, mapping);
    if mapping.deleted {
        return link;
    }
    let through_root = format!("/proc/{pid}/root{}", mapping.path);
    let found = [mapping.path.as_str(), &through_root].map(|path| files::identity(Path::new(path)));
    let [here, there] = &found;
    let shown = Some((mapping.dev, mapping.inode));
    if *here == shown {
        return PathBuf::from(&mapping.path);
    }
    if *there == shown {
        return PathBuf::from(through_root);
    }
    let mapped = files::identity(&link);
    let same = |found: &Option<Identity>| match (found, mapped) {
        (Some(found), Some(mapped)) => *found == mapped,
        // without permission for map_files the inode number is sufficient
        (Some(found), None) => found.1 == mapping.inode,
        (None, _) => false,
    };
    if same(here) {
        PathBuf::from(&mapping.path)
    } else if same(there) {
        PathBuf::from(through_root)
    } else {
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = "7f00-7f80 r-xp 00001000 fe:01 4711                     /a b/lib.so (deleted)";
        let m = parse(line).unwrap();
        assert_eq!(
            (m.start, m.end, m.offset, m.inode),
            (0x7f00, 0x7f80, 0x1000, 4711)
        );
        assert_eq!(m.path, "/a b/lib.so");
        assert!(m.executable && m.deleted && !m.writable);
        let anonymous = parse("7f00-7f80 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.path.as_str(), anonymous.inode), ("", 0));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn own_files_open() {
        let pid = std::process::id();
        let maps = read(pid).unwrap();
        let exe = maps.iter().find(|m| m.executable && m.inode != 0).unwrap();
        assert!(std::fs::File::open(openable(pid, exe)).is_ok());
    }
}
