//! An ELF file that is read in pieces. Its contents are untrusted: every offset, size and count is checked
//! against the file and a cap.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::class::{Class, class};
use super::sections::{Section, Segment};
use super::{build_id, headers};
use crate::files::{self, Budget, FileError, ForeignFile, caps};
use crate::maps::Mapping;

/// Why a mapped file cannot be read as a module.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not an ELF file.
    #[error("{path} is not an x86-64 ELF file")]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its headers are damaged.
    #[error("cannot read the ELF headers of {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// An ELF file. [`Elf::release`] drops its cached contents.
#[derive(Debug)]
pub struct Elf {
    file: ForeignFile,
    segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    budget: Arc<Budget>,
    pieces: Mutex<Pieces>,
    /// Caps that were reached, one sentence each.
    applied: Mutex<Vec<&'static str>>,
}

/// The cached pieces of the file, most recently used last.
#[derive(Debug, Default)]
struct Pieces(Vec<(u64, Arc<[u8]>)>);

impl Elf {
    /// Opens the file and reads its headers, with its own budget.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        Self::open_on(path, Budget::full())
    }

    /// Opens the file and reads its headers. `budget` limits walks over its tables.
    pub fn open_on(path: &Path, budget: Arc<Budget>) -> Result<Self, ElfError> {
        let not_elf = || ElfError::NotElf {
            path: path.to_path_buf(),
        };
        let file = match ForeignFile::open(path) {
            Err(FileError::NotRegular { .. }) => return Err(not_elf()),
            file => file?,
        };
        let mut head = [0; headers::HEAD];
        if file.len() < head.len() as u64 {
            return Err(not_elf());
        }
        file.read_at(0, &mut head)?;
        if class(&head) != Some(Class::X86_64) {
            return Err(not_elf());
        }
        let parse = |reason| ElfError::Parse {
            path: path.to_path_buf(),
            reason,
        };
        let (segments, sections) = headers::read(&file, &head).map_err(parse)?;
        Ok(Self {
            file,
            segments,
            sections,
            budget,
            pieces: Mutex::default(),
            applied: Mutex::default(),
        })
    }

    /// The open file.
    pub fn file(&self) -> &ForeignFile {
        &self.file
    }

    /// Returns the open file.
    pub fn into_file(self) -> ForeignFile {
        self.file
    }

    /// Its `PT_LOAD` segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A section by name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The bytes of a section; `None` if it is outside of the file or above the cap.
    pub fn section_bytes(&self, section: &Section) -> Option<Vec<u8>> {
        if section.size > caps::SECTION {
            self.capped("a section is larger than 32 MiB and is not read");
            return None;
        }
        self.whole(section.offset, section.size)
    }

    /// Calls `visit` with the bytes of a section in order until it returns true; returns whether it did. Each
    /// piece begins with the last `overlap` bytes of the previous one.
    pub fn search(
        &self,
        section: &Section,
        overlap: usize,
        mut visit: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let size = section.size.min(caps::SECTION * 4);
        if size < section.size {
            self.capped("a section is larger than 256 MiB and is searched only in part");
        }
        let overlap = overlap.min(caps::PIECE / 2);
        let mut buffer = Vec::new();
        let mut done = 0;
        while done < size {
            let keep = buffer.len().min(overlap);
            buffer.drain(..buffer.len() - keep);
            let next = (size - done).min(4 * caps::PIECE as u64) as usize;
            buffer.resize(keep + next, 0);
            let offset = section.offset.checked_add(done);
            if !self.spend(next as u64)
                || offset.is_none_or(|at| self.file.read_at(at, &mut buffer[keep..]).is_err())
            {
                return false;
            }
            if visit(&buffer) {
                return true;
            }
            done += next as u64;
        }
        false
    }

    /// Reads bytes of the file through the cache; false if they are outside of it.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(into.len() as u64) else {
            return false;
        };
        if end > self.file.len() {
            return false;
        }
        if into.len() > caps::PIECE {
            return self.file.read_at(offset, into).is_ok();
        }
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let Some(piece) = self.piece(at / caps::PIECE as u64) else {
                return false;
            };
            let start = (at % caps::PIECE as u64) as usize;
            let Some(found) = piece.get(start..).filter(|found| !found.is_empty()) else {
                return false;
            };
            let len = found.len().min(into.len() - done);
            into[done..done + len].copy_from_slice(&found[..len]);
            done += len;
        }
        true
    }

    /// A piece by number.
    fn piece(&self, number: u64) -> Option<Arc<[u8]>> {
        let mut pieces = lock(&self.pieces);
        if let Some(index) = pieces.0.iter().rposition(|piece| piece.0 == number) {
            let found = pieces.0.remove(index);
            let bytes = found.1.clone();
            pieces.0.push(found);
            return Some(bytes);
        }
        let start = number.checked_mul(caps::PIECE as u64)?;
        let len = self.file.len().checked_sub(start)?.min(caps::PIECE as u64);
        let mut bytes = vec![0; len as usize];
        self.file.read_at(start, &mut bytes).ok()?;
        let bytes: Arc<[u8]> = bytes.into();
        if pieces.0.len() >= caps::PIECES {
            pieces.0.remove(0);
        }
        pieces.0.push((number, bytes.clone()));
        Some(bytes)
    }

    /// File offset of an address.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        Some(self.place(address)?.0)
    }

    /// Offset of an address, and the bytes from there to the end of its segment.
    fn place(&self, address: u64) -> Option<(u64, u64)> {
        let inside = |s: &&Segment| address.checked_sub(s.address).is_some_and(|d| d < s.size);
        let segment = self.segments.iter().find(inside)?;
        let into = address - segment.address;
        Some((segment.offset.checked_add(into)?, segment.size - into))
    }

    /// Up to `len` bytes at an address of the file; fewer at the end of a segment.
    pub fn at(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let (offset, left) = self.place(address)?;
        let in_file = self.file.len().checked_sub(offset)?;
        let len = (len.min(caps::CODE) as u64).min(left).min(in_file);
        let mut bytes = vec![0; len as usize];
        self.read_at(offset, &mut bytes).then_some(bytes)
    }

    /// Difference between memory addresses of `mapping`, which maps this file, and addresses in the file.
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        // A mapping begins at a page boundary, a segment may not.
        const PAGE: u64 = 4096;
        let fits = |s: &&Segment| {
            mapping.offset >= s.offset & !(PAGE - 1)
                && mapping.offset < s.offset.saturating_add(s.size)
        };
        let mut candidates = self.segments.iter().filter(fits);
        let first = candidates.next()?;
        let segment = std::iter::once(first)
            .chain(candidates)
            .find(|s| s.executable == mapping.executable)
            .unwrap_or(first);
        let address = segment
            .address
            .wrapping_sub(segment.offset)
            .wrapping_add(mapping.offset);
        Some(mapping.start.wrapping_sub(address))
    }

    /// It has no `.symtab`.
    pub fn is_stripped(&self) -> bool {
        self.section(".symtab").is_none()
    }

    /// The build id, in hexadecimal digits.
    pub fn build_id(&self) -> Option<String> {
        let section = self.section(".note.gnu.build-id")?;
        build_id::build_id(&self.section_bytes(section)?)
    }

    /// It has line tables, in itself or in a debug file found by build id.
    pub fn has_lines(&self) -> bool {
        if self.section(".debug_line").is_some() {
            return true;
        }
        let id = self.build_id();
        let Some((first, rest)) = id.as_deref().and_then(|id| id.split_at_checked(2)) else {
            return false;
        };
        files::is_file(Path::new(&format!(
            "/usr/lib/debug/.build-id/{first}/{rest}.debug"
        )))
    }

    /// Drops the cached pieces; later reads load them again.
    pub fn release(&self) {
        lock(&self.pieces).0 = Vec::new();
    }

    /// What was not read because of a cap, one sentence each.
    pub fn limitations(&self) -> Vec<String> {
        let said = lock(&self.applied);
        let path = self.file.path().display();
        said.iter().map(|why| format!("{path}: {why}")).collect()
    }

    /// Records that a cap was reached.
    pub(crate) fn capped(&self, why: &'static str) {
        let mut applied = lock(&self.applied);
        if !applied.contains(&why) {
            applied.push(why);
        }
    }

    /// Replaces the deadline of walks over its tables, and over those of the files that share its budget.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.budget.set_deadline(deadline);
    }

    /// Takes bytes from the budget of walks.
    pub(crate) fn spend(&self, bytes: u64) -> bool {
        let enough = self.budget.take(bytes);
        if !enough {
            self.capped("its tables exceed what heaptide reads per process: some are not read");
        }
        enough
    }

    /// Bytes of the file whose number the caller has checked against a cap.
    pub(super) fn whole(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        if offset.checked_add(size)? > self.file.len() || !self.spend(size) {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.file.read_at(offset, &mut bytes).ok()?;
        Some(bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
