//! Go's table of functions and lines (`.gopclntab`), which survives `-s -w`: the layout of Go 1.20 and
//! later, as in `runtime/symtab.go` and `internal/abi/symtab.go`.
//!
//! Every number is checked before it is used: a damaged table gives fewer names, no panic.

use std::ops::Range;
use std::sync::Arc;

use crate::{
    elf::{Elf, Section},
    files::caps,
};

mod module;
mod words;

use module::moduledata;
use words::{u32_at, u64_at};

/// `Go120PCLnTabMagic`.
const MAGIC: u32 = 0xffff_fff1;
/// Bytes of `_func` before its tables.
const FUNC_BYTES: usize = 44;
/// `PCDATA_InlTreeIndex`, `FUNCDATA_InlTree`.
const INLINE_INDEX: usize = 2;
const INLINE_TREE: usize = 3;
/// Maximum depth of inlining at one instruction.
const MAX_INLINED: usize = 32;
/// Maximum bytes of a name or a path.
const MAX_TEXT: usize = 4096;

/// One function of the table. Addresses are those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// First instruction.
    pub entry: u64,
    /// Bytes up to the next function.
    pub size: u64,
}

/// A position in the source. Inlined functions have their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Function with its package path (`main.(*service).getData`).
    pub function: String,
    /// Source file as given to the compiler.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

/// The table of one executable.
#[derive(Clone, Debug)]
pub struct Table {
    elf: Arc<Elf>,
    /// Position of the section in the file.
    section: Range<u64>,
    functions: usize,
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    functab: usize,
    /// Base address of the entries.
    text: u64,
    /// End of the Go code; C code may follow.
    end: u64,
    /// Address of the inline trees, if known.
    trees: Option<u64>,
}

impl Table {
    /// The table of a mapped executable; `None` if its layout is unknown or it has none.
    pub fn open(elf: &Arc<Elf>, pid: u32, bias: u64) -> Option<Self> {
        let section = section(elf)?;
        let end = section.offset.checked_add(section.size)?;
        let mut bytes = [0; 72];
        if section.size < 72 || end > elf.file().len() || !elf.read_at(section.offset, &mut bytes) {
            return None;
        }
        let bytes = &bytes;
        // magic, two zeros, instruction quantum, pointer size
        if u32_at(bytes, 0)? != MAGIC || bytes.get(4..8)? != [0, 0, 1, 8] {
            return None;
        }
        let field = |index: usize| usize::try_from(u64_at(bytes, 8 + 8 * index)?).ok();
        let mut table = Self {
            elf: elf.clone(),
            section: section.offset..end,
            functions: field(0)?,
            names: field(3)?,
            units: field(4)?,
            files: field(5)?,
            values: field(6)?,
            functab: field(7)?,
            text: field(2)? as u64,
            end: u64::MAX,
            trees: None,
        };
        let most = (section.size / 8).min(caps::GO_FUNCTIONS as u64) as usize;
        if table.functions > most {
            elf.capped("its table of Go functions is too long: it is not read");
            return None;
        }
        let address = section.address.wrapping_add(bias);
        match moduledata(
            elf,
            pid,
            bias,
            address,
            address.wrapping_add(table.names as u64),
        ) {
            Some(module) => {
                table.text = module.text.wrapping_sub(bias);
                table.end = module.end.wrapping_sub(bias);
                let fits = |trees: &u64| table.trees_fit(*trees);
                table.trees = module
                    .trees
                    .map(|at| at.wrapping_sub(bias))
                    .into_iter()
                    .find(fits);
            }
            // In position-independent code, and from Go 1.26 on, only the process has the address.
            None if table.text == 0 => table.text = elf.section(".text")?.address,
            None => {}
        }
        (table.functions > 0 && table.entry(table.functions - 1).is_some()).then_some(table)
    }

    /// Calls `visit` with every function.
    pub fn each(&self, mut visit: impl FnMut(&str, Function)) {
        for index in 0..self.functions {
            let Some((entry, at)) = self.entry(index) else {
                return;
            };
            let next = self.entry(index + 1).map_or(self.end, |next| next.0);
            // the entry, the `_func` structure, and the name
            if !self.elf.spend(128) {
                return;
            }
            let name = self.function(at).and_then(|func| self.name(func.name));
            let size = next.saturating_sub(entry);
            if let Some(name) = name {
                visit(&name, Function { entry, size });
            }
        }
    }

    /// The range of the Go code.
    pub fn code(&self) -> Range<u64> {
        self.text..self.end
    }

    /// The positions at an instruction, innermost first; empty if it is not Go code.
    pub fn places(&self, address: u64) -> Vec<Place> {
        self.look_up(address).unwrap_or_default()
    }

    fn look_up(&self, address: u64) -> Option<Vec<Place>> {
        if address >= self.end {
            return None;
        }
        let (entry, at) = self.containing(address)?;
        let func = self.function(at)?;
        let mut places = Vec::new();
        let mut pc = address;
        let mut inlined = self.inlined(&func, entry, pc);
        while let Some(call) = inlined.filter(|_| places.len() < MAX_INLINED) {
            places.push(self.place(&func, entry, pc, call.name));
            pc = entry.wrapping_add(u64::from(call.parent));
            inlined = self.inlined(&func, entry, pc);
        }
        places.push(self.place(&func, entry, pc, func.name));
        Some(places)
    }

    fn place(&self, func: &Func, entry: u64, pc: u64, name: u32) -> Place {
        let line = self.value(func.lines, entry, pc);
        let file = self.value(func.files, entry, pc);
        Place {
            function: self.name(name).unwrap_or_else(|| "?".to_string()),
            file: file.and_then(|file| self.file(func, file)),
            line: line.and_then(|line| u32::try_from(line).ok()),
        }
    }

    /// Bytes of the section; `None` beyond its end.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let start = self.section.start.checked_add(at as u64)?;
        let inside = start.checked_add(N as u64)? <= self.section.end;
        let mut bytes = [0; N];
        (inside && self.elf.read_at(start, &mut bytes)).then_some(bytes)
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    /// The zero-terminated text at a position of the section.
    fn text(&self, at: usize) -> Option<String> {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_TEXT {
            let start = self
                .section
                .start
                .checked_add(at.checked_add(bytes.len())? as u64)?;
            let left = self
                .section
                .end
                .checked_sub(start)
                .filter(|left| *left > 0)?;
            let mut some = [0; 64];
            let some = &mut some[..left.min(64) as usize];
            if !self.elf.read_at(start, some) {
                return None;
            }
            match some.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    bytes.extend_from_slice(&some[..end]);
                    return String::from_utf8(bytes).ok();
                }
                None => bytes.extend_from_slice(some),
            }
        }
        None
    }

    fn varint(&self, at: &mut usize) -> Option<u32> {
        varint(|at| Some(self.bytes::<1>(at)?[0]), at)
    }

    /// Entry address and `_func` offset of a function by number.
    fn entry(&self, index: usize) -> Option<(u64, usize)> {
        let at = self.functab.checked_add(index.checked_mul(8)?)?;
        let offset = self.u32_at(at)?;
        // the last entry only marks the end of the code
        let func = if index < self.functions {
            self.functab
                .checked_add(self.u32_at(at.checked_add(4)?)? as usize)?
        } else {
            0
        };
        Some((self.text.wrapping_add(u64::from(offset)), func))
    }

    fn containing(&self, address: u64) -> Option<(u64, usize)> {
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = low.checked_sub(1)?;
        (address < self.entry(low)?.0).then(|| self.entry(found))?
    }

    fn function(&self, at: usize) -> Option<Func> {
        let bytes: [u8; FUNC_BYTES] = self.bytes(at)?;
        let word = |offset: usize| u32_at(&bytes, offset);
        Some(Func {
            name: word(4)?,
            files: word(20)?,
            lines: word(24)?,
            pcdata: word(28)? as usize,
            unit: word(32)?,
            funcdata: usize::from(bytes[43]),
            tables: at + FUNC_BYTES,
        })
    }

    fn name(&self, offset: u32) -> Option<String> {
        self.text(self.names.checked_add(offset as usize)?)
    }

    fn file(&self, func: &Func, number: i32) -> Option<String> {
        let unit = (func.unit as usize).checked_add(usize::try_from(number).ok()?)?;
        let offset = self.u32_at(self.units.checked_add(unit.checked_mul(4)?)?)?;
        (offset != u32::MAX).then(|| self.text(self.files.checked_add(offset as usize)?))?
    }

    /// The value of a table of the function at an instruction.
    fn value(&self, table: u32, entry: u64, address: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut at = self.values.checked_add(table as usize)?;
        let (mut pc, mut value, mut first) = (entry, -1_i32, true);
        for number in 0..caps::GO_STEPS {
            if number % 256 == 255 && !self.elf.spend(4096) {
                return None;
            }
            let step = self.varint(&mut at)?;
            if step == 0 && !first {
                return None;
            }
            first = false;
            let half = (step >> 1) as i32;
            value = value.wrapping_add(if step & 1 == 0 { half } else { !half });
            pc = pc.wrapping_add(u64::from(self.varint(&mut at)?));
            if address < pc {
                return Some(value);
            }
        }
        None
    }

    /// The inlined call at an instruction.
    fn inlined(&self, func: &Func, entry: u64, pc: u64) -> Option<Call> {
        if func.pcdata <= INLINE_INDEX || func.funcdata <= INLINE_TREE {
            return None;
        }
        let table = self.u32_at(func.tables.checked_add(4 * INLINE_INDEX)?)?;
        let index = u64::try_from(self.value(table, entry, pc)?).ok()?;
        let data = func.tables.checked_add(func.pcdata.checked_mul(4)?)?;
        let tree = self.u32_at(data.checked_add(4 * INLINE_TREE)?)?;
        if tree == u32::MAX {
            return None;
        }
        let at = self.trees?.checked_add(u64::from(tree) + 16 * index)?;
        let call = self.elf.at(at, 16)?;
        Some(Call {
            name: u32_at(&call, 4)?,
            parent: u32_at(&call, 8)?,
        })
    }

    /// Whether inline trees at this address are plausible: their name offsets are starts of names.
    fn trees_fit(&self, trees: u64) -> bool {
        let trial = Self {
            trees: Some(trees),
            ..self.clone()
        };
        let (mut right, mut seen) = (0, 0);
        for index in 0..self.functions {
            let Some((entry, at)) = self.entry(index) else {
                break;
            };
            let Some(func) = self.function(at) else { break };
            let Some(call) = trial.inlined(&func, entry, entry) else {
                continue;
            };
            seen += 1;
            let before = self
                .names
                .saturating_add(call.name as usize)
                .wrapping_sub(1);
            right += usize::from(self.bytes::<1>(before) == Some([0]));
            if seen == 64 {
                break;
            }
        }
        right == seen && seen > 0
    }
}

/// Fields of `_func`.
struct Func {
    name: u32,
    files: u32,
    lines: u32,
    pcdata: usize,
    unit: u32,
    funcdata: usize,
    tables: usize,
}

/// `runtime.inlinedCall`.
struct Call {
    name: u32,
    parent: u32,
}

fn section(elf: &Elf) -> Option<&Section> {
    [".gopclntab", ".data.rel.ro.gopclntab"]
        .iter()
        .find_map(|name| elf.section(name))
}

fn varint(byte: impl Fn(usize) -> Option<u8>, at: &mut usize) -> Option<u32> {
    let (mut value, mut shift) = (0_u32, 0);
    loop {
        let byte = byte(*at)?;
        *at += 1;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests;
