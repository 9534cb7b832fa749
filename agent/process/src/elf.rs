//! One ELF file, mapped: its segments, sections and function symbols.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::read::elf::ElfFile64;
use object::{
    Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, ObjectSymbolTable, SymbolKind,
};

use crate::{error::ProcessError, identity, maps::Mapping};

/// Why a mapped file cannot be read as a module.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It is something else that is mapped executable.
    #[error("{path} is no x86-64 ELF file")]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its headers are damaged.
    #[error("cannot read the ELF headers of {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: object::Error,
    },
}

/// What kind of program an executable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The only one heaptide knows.
    X86_64,
    /// ELF class 32 (i386, x32).
    ThirtyTwoBit,
    /// Another machine.
    Other,
}

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address in the file's own terms.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Code may run in it.
    pub executable: bool,
}

/// A section with contents in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Address in the file's own terms, 0 when it is not loaded.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
}

/// A defined function symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Mangled name without version.
    pub name: &'a str,
    /// Address in the file's own terms.
    pub address: u64,
    /// Size, 0 when the file does not say.
    pub size: u64,
    /// From `.dynsym`: other modules can bind to it.
    pub dynamic: bool,
}

/// A mapped ELF file. The pages read are given back by [`Elf::release`].
#[derive(Debug)]
pub struct Elf {
    map: Mmap,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

impl Elf {
    /// Maps the file and reads its headers.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        let open = |source| ElfError::Open {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(open)?;
        let meta = file.metadata().map_err(open)?;
        // a device or a memfd of another kind must not be read
        if !meta.is_file() || meta.len() < 64 {
            return Err(ElfError::NotElf {
                path: path.to_path_buf(),
            });
        }
        // SAFETY: a shared read-only mapping of a file that a process runs from. The kernel refuses
        // to write to a running executable and package managers replace libraries by rename; who
        // truncates one in place crashes the service itself first.
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        if class(&map) != Some(Class::X86_64) {
            return Err(ElfError::NotElf {
                path: path.to_path_buf(),
            });
        }
        let (segments, sections) = {
            let elf = ElfFile64::<Endianness>::parse(&*map).map_err(|source| ElfError::Parse {
                path: path.to_path_buf(),
                source,
            })?;
            (segments(&elf), sections(&elf))
        };
        Ok(Self {
            map,
            segments,
            sections,
        })
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Its `PT_LOAD` segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A section by name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The bytes of a section.
    pub fn section_bytes(&self, section: &Section) -> Option<&[u8]> {
        let start = usize::try_from(section.offset).ok()?;
        let size = usize::try_from(section.size).ok()?;
        self.map.get(start..start.checked_add(size)?)
    }

    /// Where an address of the file lies in the file.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let segment = self
            .segments
            .iter()
            .find(|s| address.checked_sub(s.address).is_some_and(|d| d < s.size))?;
        Some(address - segment.address + segment.offset)
    }

    /// Up to `len` bytes at an address of the file; fewer at the end of a segment.
    pub fn at(&self, address: u64, len: usize) -> Option<&[u8]> {
        let segment = self
            .segments
            .iter()
            .find(|s| address.checked_sub(s.address).is_some_and(|d| d < s.size))?;
        let left = segment.size - (address - segment.address);
        let start = usize::try_from(address - segment.address + segment.offset).ok()?;
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.map
            .get(start..start.checked_add(len)?.min(self.map.len()))
    }

    /// What to add to the file's addresses to get those of `mapping`, which maps this file.
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        // a mapping begins at a page, a segment need not
        const PAGE: u64 = 4096;
        let fits = |s: &&Segment| {
            mapping.offset >= s.offset & !(PAGE - 1) && mapping.offset < s.offset + s.size
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

    /// Calls `visit` with every function defined in `.dynsym`, then `.symtab`. IFUNCs are left out:
    /// their address is that of the resolver.
    pub fn functions<'a>(&'a self, mut visit: impl FnMut(Symbol<'a>)) {
        let Ok(elf) = ElfFile64::<Endianness>::parse(&*self.map) else {
            return;
        };
        let tables = [
            (elf.elf_dynamic_symbol_table(), true),
            (elf.elf_symbol_table(), false),
        ];
        for (table, dynamic) in tables {
            let strings = table.strings();
            for symbol in table.iter() {
                use object::read::elf::Sym;
                let endian = elf.endian();
                let defined = symbol.st_shndx.get(endian) != object::elf::SHN_UNDEF;
                if !defined || symbol.st_type() != object::elf::STT_FUNC {
                    continue;
                }
                let Ok(name) = symbol.name(endian, strings) else {
                    continue;
                };
                let Ok(name) = std::str::from_utf8(name) else {
                    continue;
                };
                let (address, size) = (symbol.st_value.get(endian), symbol.st_size.get(endian));
                // .symtab writes versions into names
                let name = name.split('@').next().unwrap_or(name);
                visit(Symbol {
                    name,
                    address,
                    size,
                    dynamic,
                });
            }
        }
    }

    /// The functions that are called through the file's tables: where in memory the dynamic linker
    /// writes an address (in the file's own terms), and the name of the function.
    pub fn imports(&self) -> Vec<(u64, String)> {
        let Ok(elf) = ElfFile64::<Endianness>::parse(&*self.map) else {
            return Vec::new();
        };
        let (Some(relocations), Some(symbols)) =
            (elf.dynamic_relocations(), elf.dynamic_symbol_table())
        else {
            return Vec::new();
        };
        relocations
            .filter_map(|(place, relocation)| {
                let object::RelocationTarget::Symbol(index) = relocation.target() else {
                    return None;
                };
                let name = symbols.symbol_by_index(index).ok()?.name().ok()?;
                let name = name.split('@').next().unwrap_or(name);
                Some((place, name.to_owned()))
            })
            .collect()
    }

    /// Address of a data symbol (`_r_debug`, `_PyRuntime`).
    pub fn data_symbol(&self, name: &str) -> Option<u64> {
        let elf = ElfFile64::<Endianness>::parse(&*self.map).ok()?;
        let wanted = |s: &object::read::elf::ElfSymbol64<'_, '_, Endianness>| {
            s.kind() == SymbolKind::Data && !s.is_undefined() && s.name() == Ok(name)
        };
        let found = elf
            .dynamic_symbols()
            .find(wanted)
            .or_else(|| elf.symbols().find(wanted));
        found.map(|s| s.address())
    }

    /// It has no `.symtab`.
    pub fn is_stripped(&self) -> bool {
        self.section(".symtab").is_none()
    }

    /// It has line tables, in itself or in a debug file by build id.
    pub fn has_lines(&self) -> bool {
        if self.section(".debug_line").is_some() {
            return true;
        }
        let id = ElfFile64::<Endianness>::parse(&*self.map)
            .ok()
            .and_then(|elf| elf.build_id().ok()?);
        let Some((first, rest)) = id.and_then(|id| id.split_first()) else {
            return false;
        };
        let rest = rest
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Path::new(&format!(
            "/usr/lib/debug/.build-id/{first:02x}/{rest}.debug"
        ))
        .exists()
    }

    /// Gives the resident pages back to the kernel; reading on maps them in again.
    pub fn release(&self) {
        // SAFETY: the mapping is read-only and file-backed: dropped pages are read again from the
        // file, nothing is lost.
        let advised = unsafe {
            self.map
                .unchecked_advise(memmap2::UncheckedAdvice::DontNeed)
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "madvise");
        }
    }
}

fn segments(elf: &ElfFile64<'_, Endianness>) -> Vec<Segment> {
    elf.segments()
        .map(|s| {
            let (offset, size) = s.file_range();
            let executable = s.permissions().executable();
            Segment {
                address: s.address(),
                offset,
                size,
                executable,
            }
        })
        .collect()
}

fn sections(elf: &ElfFile64<'_, Endianness>) -> Vec<Section> {
    elf.sections()
        .filter_map(|s| {
            let (offset, size) = s.file_range()?;
            let name = s.name().ok()?.to_string();
            Some(Section {
                name,
                address: s.address(),
                offset,
                size,
            })
        })
        .collect()
}

fn class(head: &[u8]) -> Option<Class> {
    const EM_386: u16 = 3;
    const EM_X86_64: u16 = 62;
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    let machine = u16::from_le_bytes([*head.get(18)?, *head.get(19)?]);
    Some(match (head[4], machine) {
        (2, EM_X86_64) => Class::X86_64,
        (1, EM_386 | EM_X86_64) => Class::ThirtyTwoBit,
        _ => Class::Other,
    })
}

/// What kind of program `pid` runs.
pub fn class_of(pid: u32) -> Result<Class, ProcessError> {
    let mut head = [0; 20];
    File::open(format!("/proc/{pid}/exe"))
        .and_then(|mut file| file.read_exact(&mut head))
        .map_err(|error| identity::explain(pid, "exe", error))?;
    Ok(class(&head).unwrap_or(Class::Other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let mut head = [0; 20];
        head[..4].copy_from_slice(b"\x7fELF");
        head[4] = 1;
        head[18] = 3;
        assert_eq!(class(&head), Some(Class::ThirtyTwoBit));
        head[4] = 2;
        head[18] = 62;
        assert_eq!(class(&head), Some(Class::X86_64));
        assert_eq!(class(b"#!/bin/sh and so on.."), None);
    }

    #[test]
    fn own_executable() {
        let elf = Elf::open(&std::env::current_exe().unwrap()).unwrap();
        let mut names = 0;
        elf.functions(|_| names += 1);
        assert!(names > 100);
        let text = elf.section(".text").unwrap();
        assert_eq!(elf.file_offset(text.address), Some(text.offset));
        assert_eq!(elf.at(text.address, 16).unwrap().len(), 16);
        assert!(Elf::open(Path::new("/proc/self/maps")).is_err());
    }
}
