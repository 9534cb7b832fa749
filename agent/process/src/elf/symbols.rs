//! The symbols of an ELF file, read in pieces.

use std::ops::ControlFlow;

use super::headers::{u16_at, u32_at, u64_at};
use super::image::Elf;
use super::sections::Section;
use super::strings::Strings;
use crate::files::caps;

/// Bytes of a symbol and of a relocation.
const SYMBOL: u64 = 24;
const RELOCATION: u64 = 24;
/// Symbols read at once.
const AT_ONCE: u64 = 8192;

const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_DYNSYM: u32 = 11;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;

/// A defined function symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Mangled name without version.
    pub name: &'a str,
    /// Address in the file.
    pub address: u64,
    /// Size, 0 if unknown.
    pub size: u64,
    /// From `.dynsym`: other modules can bind to it.
    pub dynamic: bool,
}

impl Elf {
    /// Calls `visit` with every function defined in `.dynsym`, then `.symtab`. IFUNCs are left out:
    /// their address is that of the resolver.
    pub fn functions(&self, mut visit: impl FnMut(Symbol<'_>)) {
        for (kind, dynamic) in [(SHT_DYNSYM, true), (SHT_SYMTAB, false)] {
            let _: ControlFlow<()> = self.defined(kind, STT_FUNC, |name, address, size| {
                visit(Symbol {
                    name,
                    address,
                    size,
                    dynamic,
                });
                ControlFlow::Continue(())
            });
        }
    }

    /// Address of a data symbol (`_r_debug`, `_PyRuntime`).
    pub fn data_symbol(&self, wanted: &str) -> Option<u64> {
        let find = |kind| {
            let walk = self.defined(kind, STT_OBJECT, |name, address, _| {
                if name == wanted {
                    ControlFlow::Break(address)
                } else {
                    ControlFlow::Continue(())
                }
            });
            walk.break_value()
        };
        find(SHT_DYNSYM).or_else(|| find(SHT_SYMTAB))
    }

    /// Calls `visit` with name, address and size of every defined symbol of a type.
    fn defined<T>(
        &self,
        kind: u32,
        of_type: u8,
        mut visit: impl FnMut(&str, u64, u64) -> ControlFlow<T>,
    ) -> ControlFlow<T> {
        let Some((table, mut strings)) = self.table(kind) else {
            return ControlFlow::Continue(());
        };
        let count = table.size / SYMBOL;
        if count > caps::SYMBOLS {
            self.capped("its symbol table has more than 4,194,304 entries: the rest is not read");
        }
        let count = count.min(caps::SYMBOLS);
        let mut first = 0;
        while first < count {
            let some = (count - first).min(AT_ONCE);
            let offset = table.offset.checked_add(first * SYMBOL);
            let Some(bytes) = offset.and_then(|at| self.whole(at, some * SYMBOL)) else {
                return ControlFlow::Continue(());
            };
            for symbol in bytes.chunks_exact(SYMBOL as usize) {
                let Some((name, address, size)) = defined_symbol(symbol, of_type) else {
                    continue;
                };
                let Some(name) = strings.get(name).and_then(without_version) else {
                    continue;
                };
                visit(name, address, size)?;
            }
            first += some;
        }
        ControlFlow::Continue(())
    }

    /// A symbol table and its names.
    fn table(&self, kind: u32) -> Option<(&Section, Strings<'_>)> {
        let table = self.sections.iter().find(|s| s.kind == kind)?;
        Some((table, Strings::new(self, self.numbered(table.link)?)))
    }

    fn numbered(&self, number: u32) -> Option<&Section> {
        self.sections.iter().find(|s| s.number == number)
    }

    /// The functions called through the GOT: address of the entry (in the file) and name of the
    /// function.
    pub fn imports(&self) -> Vec<(u64, String)> {
        let Some((table, mut strings)) = self.table(SHT_DYNSYM) else {
            return Vec::new();
        };
        let Some(symbols) = self.section_bytes(table) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let of_table = |s: &&Section| s.kind == SHT_RELA && s.link == table.number;
        let mut left = caps::RELOCATIONS;
        for relocations in self.sections.iter().filter(of_table) {
            if relocations.size / RELOCATION > left {
                self.capped("it has more than 1,048,576 relocations: the rest is not read");
            }
            let count = (relocations.size / RELOCATION).min(left);
            left -= count;
            let Some(bytes) = self.whole(relocations.offset, count * RELOCATION) else {
                continue;
            };
            for relocation in bytes.chunks_exact(RELOCATION as usize) {
                let Some((place, index)) = target(relocation).filter(|target| target.1 != 0) else {
                    continue;
                };
                let name = u32_at(&symbols, index as usize * SYMBOL as usize);
                let name = name.and_then(|name| strings.get(name));
                if let Some(name) = name.and_then(without_version) {
                    found.push((place, name.to_owned()));
                }
            }
        }
        found
    }
}

/// Name offset, address and size of a symbol, if it is defined and of that type.
fn defined_symbol(symbol: &[u8], of_type: u8) -> Option<(u32, u64, u64)> {
    let defined = u16_at(symbol, 6)? != 0 && symbol.get(4)? & 0xf == of_type;
    defined.then(|| Some((u32_at(symbol, 0)?, u64_at(symbol, 8)?, u64_at(symbol, 16)?)))?
}

/// Target address of a relocation, and its symbol number.
fn target(relocation: &[u8]) -> Option<(u64, u32)> {
    Some((u64_at(relocation, 0)?, u32_at(relocation, 12)?))
}

/// Names in `.symtab` include versions.
fn without_version(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    Some(name.split('@').next().unwrap_or(name))
}
