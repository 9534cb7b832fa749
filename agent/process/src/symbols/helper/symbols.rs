//! The symbol tables of a file, by address.

use object::LittleEndian;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use crate::files::caps;

/// Bytes of a symbol.
const SYMBOL: usize = 24;

/// One table.
pub(super) struct Table {
    symbols: &'static [u8],
    strings: &'static [u8],
    /// `.dynsym`: it omits many functions, so a symbol without a size does not cover what follows.
    sparse: bool,
    /// Address and number, sorted; for equal addresses the largest symbol first.
    order: Vec<(u64, u32)>,
}

impl Table {
    /// `.symtab` and `.dynsym` of a file.
    pub(super) fn all(file: &ElfFile64<'static, LittleEndian, &'static [u8]>) -> Vec<Self> {
        [(".symtab", ".strtab", false), (".dynsym", ".dynstr", true)]
            .into_iter()
            .filter_map(|(symbols, strings, sparse)| {
                let bytes = |name| file.section_by_name(name)?.data().ok();
                Some(Self::new(bytes(symbols)?, bytes(strings)?, sparse))
            })
            .collect()
    }

    fn new(symbols: &'static [u8], strings: &'static [u8], sparse: bool) -> Self {
        let mut table = Self {
            symbols,
            strings,
            sparse,
            order: Vec::new(),
        };
        let count = (symbols.len() / SYMBOL).min(caps::SYMBOLS as usize) as u32;
        let mut order: Vec<(u64, u32)> = (0..count)
            .filter_map(|number| Some((table.function(number)?.0, number)))
            .collect();
        let size = |number| table.function(number).map_or(0, |found| found.1);
        order
            .sort_unstable_by_key(|(address, number)| (*address, std::cmp::Reverse(size(*number))));
        order.shrink_to_fit();
        table.order = order;
        table
    }

    /// Address, size and name offset of a defined function symbol.
    fn function(&self, number: u32) -> Option<(u64, u64, u32)> {
        const NOTYPE: u8 = 0;
        const FUNC: u8 = 2;
        const IFUNC: u8 = 10;
        let at = number as usize * SYMBOL;
        let symbol = self.symbols.get(at..at + SYMBOL)?;
        let (head, numbers) = symbol.split_first_chunk::<8>()?;
        let (address, size) = numbers.split_first_chunk::<8>()?;
        let defined = head[6..8] != [0, 0] && matches!(head[4] & 0xf, NOTYPE | FUNC | IFUNC);
        let name = u32::from_le_bytes(*head.first_chunk()?);
        (defined && name != 0).then_some(())?;
        Some((
            u64::from_le_bytes(*address),
            u64::from_le_bytes(*size.first_chunk()?),
            name,
        ))
    }

    /// The name of the function at an address.
    pub(super) fn name(&self, address: u64) -> Option<&'static str> {
        let after = self.order.partition_point(|one| one.0 <= address);
        let start = self.order.get(after.checked_sub(1)?)?.0;
        let first = self.order.partition_point(|one| one.0 < start);
        self.order
            .get(first..after)?
            .iter()
            .find_map(|(_, number)| {
                let (start, size, name) = self.function(*number)?;
                let inside = match size {
                    0 => !self.sparse || address == start,
                    size => address - start < size,
                };
                inside.then(|| self.text(name))?
            })
    }

    fn text(&self, at: u32) -> Option<&'static str> {
        let rest = self.strings.get(at as usize..)?;
        let end = rest.iter().take(caps::NAME).position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}
