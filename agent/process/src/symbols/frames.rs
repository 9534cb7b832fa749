//! A bounded cache of unwind sections, shared by all processes that run the same file.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Elf, elf::Section, files::Identity};

/// Maximum bytes of the cache.
const MAX_KEPT: usize = 16 << 20;

/// Identity, length, offset and size of the section.
type Key = (Identity, u64, u64, u64);

/// Most recently used last.
static KEPT: Mutex<Vec<(Key, Arc<[u8]>)>> = Mutex::new(Vec::new());

/// The bytes of a section.
pub(super) fn section(elf: &Elf, name: &str) -> Option<Arc<[u8]>> {
    let section = elf.section(name)?;
    let key = key(elf, section);
    let kept = |kept: &mut Vec<(Key, Arc<[u8]>)>| {
        let index = kept.iter().rposition(|one| one.0 == key)?;
        let found = kept.remove(index);
        kept.push(found.clone());
        Some(found.1)
    };
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = kept(&mut lock()) {
        return Some(found);
    }
    let bytes: Arc<[u8]> = elf.section_bytes(section)?.into();
    let mut all = lock();
    all.push((key, bytes.clone()));
    let mut total: usize = all.iter().map(|one| one.1.len()).sum();
    while total > MAX_KEPT {
        total -= all.remove(0).1.len();
    }
    Some(bytes)
}

fn key(elf: &Elf, section: &Section) -> Key {
    let file = elf.file();
    (file.identity(), file.len(), section.offset, section.size)
}
