//! Debug information of a module: functions, inlined functions and lines.

use addr2line::Context;
use gimli::{EndianSlice, LittleEndian as Little, SectionId};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, LittleEndian, Object, ObjectSection};

use super::protocol::{Looked, MAX_NAME, MAX_TEXT, Place};
use super::symbols::Table;
use crate::files::caps;

/// Maximum depth of inlining.
const MAX_PLACES: usize = 64;

type Slice = EndianSlice<'static, Little>;
type Mapped = ElfFile64<'static, LittleEndian, &'static [u8]>;

/// A module whose addresses can be looked up.
pub(super) struct Named {
    context: Option<Context<Slice>>,
    tables: Vec<Table>,
}

impl Named {
    /// Reads a module, its debug file if any, and the file shared with others; also returns what
    /// cannot be read.
    pub(super) fn open(
        module: &'static [u8],
        debug: Option<&'static [u8]>,
        shared: Option<&'static [u8]>,
        lines: bool,
    ) -> Result<(Self, Option<String>), object::Error> {
        let module = Mapped::parse(module)?;
        let debug = debug.map(Mapped::parse).transpose()?;
        let shared = shared.map(Mapped::parse).transpose()?;
        let described = debug.as_ref().unwrap_or(&module);
        let mut tables = Table::all(described);
        if debug.is_some() {
            tables.extend(Table::all(&module));
        }
        let mut named = Self {
            context: None,
            tables,
        };
        let mut said = None;
        if lines {
            match context(described, shared.as_ref()) {
                Ok(context) => named.context = Some(context),
                Err(why) => said = Some(why),
            }
        }
        Ok((named, said))
    }

    /// Looks up an address.
    pub(super) fn look(&self, address: u64) -> Looked {
        let mut left = MAX_TEXT;
        let symbol = self.tables.iter().find_map(|table| table.name(address));
        let symbol = symbol.and_then(|name| short(&demangled(name), &mut left));
        let places = self.places(address, &mut left).unwrap_or_default();
        Looked { symbol, places }
    }

    fn places(&self, address: u64, left: &mut usize) -> Option<Vec<Place>> {
        let context = self.context.as_ref()?;
        let mut frames = context.find_frames(address).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while places.len() < MAX_PLACES {
            let Ok(Some(frame)) = frames.next() else {
                break;
            };
            let function = frame.function.as_ref().and_then(|name| {
                let name = name.raw_name().ok()?;
                short(&demangled(&name), left)
            });
            let location = frame.location.as_ref();
            places.push(Place {
                function,
                file: location
                    .and_then(|location| location.file)
                    .and_then(|file| short(file, left)),
                line: location.and_then(|location| location.line),
            });
        }
        Some(places)
    }
}

/// A text, if it fits into the answer.
fn short(text: &str, left: &mut usize) -> Option<String> {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    *left = left.checked_sub(end)?;
    Some(text[..end].to_string())
}

fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    let cpp = cpp_demangle::Symbol::new(name).ok();
    cpp.and_then(|symbol| symbol.demangle().ok())
        .unwrap_or_else(|| name.to_string())
}

fn context(file: &Mapped, shared: Option<&Mapped>) -> Result<Context<Slice>, String> {
    let mut inflated = 0;
    let mut load = |file: &Mapped, id| section(file, id, &mut inflated);
    let mut dwarf = gimli::Dwarf::load(|id| load(file, id))?;
    if let Some(shared) = shared {
        dwarf.load_sup(|id| load(shared, id))?;
    }
    Context::from_dwarf(dwarf).map_err(|why| format!("its debug information is damaged: {why}"))
}

/// The bytes of a debug section, decompressed if necessary.
fn section(file: &Mapped, id: SectionId, inflated: &mut u64) -> Result<Slice, String> {
    let empty = EndianSlice::new(&[], Little);
    // locations of variables are not needed
    if matches!(
        id,
        SectionId::DebugLoc
            | SectionId::DebugLocLists
            | SectionId::DebugMacro
            | SectionId::DebugMacinfo
    ) {
        return Ok(empty);
    }
    let Some(section) = file.section_by_name(id.name()) else {
        return Ok(empty);
    };
    let damaged = |why: object::Error| format!("its section {} is damaged: {why}", id.name());
    let data = section.compressed_data().map_err(damaged)?;
    if data.format == CompressionFormat::None {
        return Ok(EndianSlice::new(data.data, Little));
    }
    *inflated = inflated.saturating_add(data.uncompressed_size);
    if *inflated > caps::INFLATED {
        return Err(format!(
            "its debug sections have more than {} MiB when decompressed",
            caps::INFLATED >> 20
        ));
    }
    // Decompression stops at the claimed size.
    let bytes = data.decompress().map_err(damaged)?.into_owned();
    Ok(EndianSlice::new(Vec::leak(bytes), Little))
}
