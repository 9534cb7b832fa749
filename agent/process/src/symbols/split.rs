//! Locates a module's debug information: in the module, in a debug file of the host or the target's
//! root, or in the cache of debuginfod's clients (gdb, `debuginfod-find`). Nothing is downloaded.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::helper::Files;
use crate::files::{ForeignFile, caps};
use crate::{Elf, Module};

/// Bytes read at once for the checksum of a debug file.
const BLOCK: usize = 256 << 10;
/// Maximum bytes of a debug file whose checksum is computed.
const MAX_SUMMED: u64 = 1 << 30;

/// A module, its debug file, and the file shared with others. `refused` gets a sentence for a file that is where the
/// debug file should be and is none.
pub(super) fn files(module: &Module, pid: u32, refused: &mut Vec<String>) -> Files {
    let folders = [
        PathBuf::from("/usr/lib/debug"),
        PathBuf::from("/lib/debug"),
        PathBuf::from(format!("/proc/{pid}/root/usr/lib/debug")),
    ];
    let elf = &module.elf;
    let mut unfit = Vec::new();
    let debug = if elf.section(".debug_info").is_some() {
        None
    } else {
        by_id(elf, &folders, &mut unfit)
            .or_else(|| by_link(elf, &module.file, &folders, &mut unfit))
    };
    if let Some(path) = unfit.first().filter(|_| debug.is_none()) {
        refused.push(format!(
            "functions of `{}` have no lines: `{}`, where its debug file should be, cannot be used as one: it is of another build, or cannot be read",
            module.name,
            path.display()
        ));
    }
    let described = debug.as_ref().unwrap_or(elf);
    let shared = shared(described, &folders);
    Files {
        shared,
        debug: debug.map(Elf::into_file),
        elf: elf.clone(),
    }
}

/// The debug file with the build id of a module.
fn by_id(elf: &Elf, folders: &[PathBuf], unfit: &mut Vec<PathBuf>) -> Option<Elf> {
    let id = elf.build_id()?;
    let fetched = fetched().map(|folder| folder.join(&id).join("debuginfo"));
    let installed = folders.iter().filter_map(|folder| in_folder(folder, &id));
    fetched.chain(installed).find_map(|path| {
        open(
            &path,
            elf,
            |found| found.build_id().as_deref() == Some(&id),
            unfit,
        )
    })
}

/// The file at `path` if it fits `elf`. Another file there is added to `unfit`.
fn open(
    path: &Path,
    elf: &Elf,
    fits: impl Fn(&Elf) -> bool,
    unfit: &mut Vec<PathBuf>,
) -> Option<Elf> {
    match Elf::open(path) {
        // A debug file may have the name of its module, in another folder.
        Ok(found) if found.file().identity() == elf.file().identity() => {}
        Ok(found) if fits(&found) => return Some(found),
        Err(_) if path.symlink_metadata().is_err() => {}
        _ => unfit.push(path.to_owned()),
    }
    None
}

fn in_folder(folder: &Path, id: &str) -> Option<PathBuf> {
    let (first, rest) = id.split_at_checked(2)?;
    Some(folder.join(format!(".build-id/{first}/{rest}.debug")))
}

/// The debug file named by a module (`.gnu_debuglink`: name, checksum).
fn by_link(elf: &Elf, path: &Path, folders: &[PathBuf], unfit: &mut Vec<PathBuf>) -> Option<Elf> {
    let section = elf.section(".gnu_debuglink").filter(|s| s.size < 4096)?;
    let link = elf.section_bytes(section)?;
    let end = link.iter().position(|byte| *byte == 0)?;
    let sum = u32::from_le_bytes(*link.get((end + 1).next_multiple_of(4)..)?.first_chunk()?);
    let name = Path::new(std::ffi::OsStr::from_bytes(link.get(..end)?));
    // a name, no path
    let mut parts = name.components();
    if !matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) {
        return None;
    }
    let beside = path.parent()?;
    // the folder in the target's root
    let inside: PathBuf = match path.strip_prefix("/proc") {
        Ok(rest) => rest.components().skip(2).collect(),
        Err(_) => path.strip_prefix("/").ok()?.to_path_buf(),
    };
    let mut candidates = vec![beside.join(name), beside.join(".debug").join(name)];
    for folder in folders {
        candidates.push(folder.join(name));
        candidates.extend(inside.parent().map(|inside| folder.join(inside).join(name)));
    }
    let fits = |found: &Elf| match (elf.build_id(), found.build_id()) {
        (Some(one), Some(other)) => one == other,
        _ => checksum(found.file()) == Some(sum),
    };
    candidates
        .into_iter()
        .find_map(|path| open(&path, elf, fits, unfit))
}

fn checksum(file: &ForeignFile) -> Option<u32> {
    let len = Some(file.len()).filter(|len| *len <= MAX_SUMMED)?;
    let mut sum = flate2::Crc::new();
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    while done < len {
        let part = &mut block[..(len - done).min(BLOCK as u64) as usize];
        file.read_at(done, part).ok()?;
        sum.update(part);
        done += part.len() as u64;
    }
    Some(sum.sum())
}

/// The file that a debug file shares with others (`.gnu_debugaltlink`: path, build id).
fn shared(elf: &Elf, folders: &[PathBuf]) -> Option<ForeignFile> {
    use std::fmt::Write as _;
    let section = elf.section(".gnu_debugaltlink").filter(|s| s.size < 8192)?;
    let link = elf.section_bytes(section)?;
    let end = link.iter().position(|byte| *byte == 0)?;
    let id = link.get(end + 1..)?;
    let id = id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let path = Path::new(std::ffi::OsStr::from_bytes(link.get(..end)?));
    let by_id = folders.iter().filter_map(|folder| in_folder(folder, &id));
    // a relative path starts at the debug file; an absolute path must be in a folder of debug files
    let own = elf.file().path().parent().map(|folder| folder.join(path));
    let named = own
        .into_iter()
        .filter(|path| folders.iter().any(|f| path.starts_with(f)));
    by_id.chain(named).find_map(|path| {
        let found = Elf::open(&path).ok()?;
        let fits =
            found.build_id().as_deref() == Some(&id) && found.file().len() <= caps::DEBUG_FILE;
        fits.then(|| found.into_file())
    })
}

/// Caches of debuginfod's clients, in their order of lookup.
fn fetched() -> impl Iterator<Item = PathBuf> {
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
