//! Structures of a program from its DWARF: sizes, and offsets of fields by path (`sched.bp`).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gimli::{AttributeValue, EndianSlice, LittleEndian};
use object::{Object as _, ObjectSection as _};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// One structure.
struct Structure {
    size: u64,
    fields: HashMap<String, Field>,
}

/// One field of it.
struct Field {
    offset: u64,
    /// Offset of its type's DIE.
    of: usize,
}

/// All structures of a program.
pub(super) struct Types {
    /// By offset of the DIE.
    structures: HashMap<usize, Structure>,
    /// Offsets of DIEs, by name.
    names: HashMap<String, usize>,
    /// Sizes of other types.
    sizes: HashMap<usize, u64>,
    /// Type aliases: offset of the aliased type.
    aliases: HashMap<usize, usize>,
}

impl Types {
    /// Reads them all.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*file)?;
        let load = |section: gimli::SectionId| -> Result<Cow<'_, [u8]>> {
            Ok(match file.section_by_name(section.name()) {
                Some(section) => section.uncompressed_data()?,
                None => Cow::Borrowed(&[]),
            })
        };
        let sections = gimli::DwarfSections::load(load)?;
        let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut types = Self {
            structures: HashMap::new(),
            names: HashMap::new(),
            sizes: HashMap::new(),
            aliases: HashMap::new(),
        };
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            types.read_unit(&dwarf, &unit)?;
        }
        Ok(types)
    }

    fn read_unit(&mut self, dwarf: &gimli::Dwarf<Bytes>, unit: &gimli::Unit<Bytes>) -> Result<()> {
        let at = |entry: &gimli::DebuggingInformationEntry<Bytes>| -> Option<usize> {
            Some(entry.offset().to_debug_info_offset(&unit.header)?.0)
        };
        let name = |entry: &gimli::DebuggingInformationEntry<Bytes>| -> Result<Option<String>> {
            let Some(value) = entry.attr_value(gimli::DW_AT_name) else {
                return Ok(None);
            };
            let text = dwarf.attr_string(unit, value)?;
            Ok(Some(text.to_string_lossy().into_owned()))
        };
        let number = |entry: &gimli::DebuggingInformationEntry<Bytes>, attribute| {
            entry
                .attr_value(attribute)
                .and_then(|value| value.udata_value())
        };
        let of = |entry: &gimli::DebuggingInformationEntry<Bytes>| -> Option<usize> {
            match entry.attr_value(gimli::DW_AT_type)? {
                AttributeValue::DebugInfoRef(at) => Some(at.0),
                AttributeValue::UnitRef(at) => Some(at.to_debug_info_offset(&unit.header)?.0),
                _ => None,
            }
        };
        let mut open = None;
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            match entry.tag() {
                gimli::DW_TAG_structure_type => {
                    open = at(entry);
                    let (Some(at), Some(size)) = (open, number(entry, gimli::DW_AT_byte_size))
                    else {
                        continue;
                    };
                    if let Some(name) = name(entry)? {
                        self.names.insert(name, at);
                    }
                    let fields = HashMap::new();
                    self.structures.insert(at, Structure { size, fields });
                }
                gimli::DW_TAG_member => {
                    let offset = number(entry, gimli::DW_AT_data_member_location);
                    let structure = open.and_then(|open| self.structures.get_mut(&open));
                    if let (Some(structure), Some(offset), Some(of), Some(name)) =
                        (structure, offset, of(entry), name(entry)?)
                    {
                        structure.fields.insert(name, Field { offset, of });
                    }
                }
                gimli::DW_TAG_typedef => {
                    if let (Some(at), Some(of)) = (at(entry), of(entry)) {
                        self.aliases.insert(at, of);
                    }
                }
                _ => {
                    if let (Some(at), Some(size)) =
                        (at(entry), number(entry, gimli::DW_AT_byte_size))
                    {
                        self.sizes.insert(at, size);
                    }
                }
            }
        }
        Ok(())
    }

    fn structure(&self, name: &str) -> Result<&Structure> {
        let found = self.names.get(name).and_then(|at| self.structures.get(at));
        found.with_context(|| format!("there is no structure {name}"))
    }

    /// Whether there is a structure of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Bytes of a structure.
    pub(super) fn size(&self, name: &str) -> Result<u64> {
        Ok(self.structure(name)?.size)
    }

    /// Offset and size of a field.
    pub(super) fn field(&self, name: &str, path: &str) -> Result<(u64, u64)> {
        let mut structure = Some(self.structure(name)?);
        let (mut offset, mut of) = (0, 0);
        for part in path.split('.') {
            let field = structure.and_then(|structure| structure.fields.get(part));
            let Some(field) = field else {
                bail!("{name} has no field {path}");
            };
            offset += field.offset;
            of = self.aliases.get(&field.of).copied().unwrap_or(field.of);
            structure = self.structures.get(&of);
        }
        let size = structure.map(|structure| structure.size);
        let size = size.or_else(|| self.sizes.get(&of).copied());
        Ok((offset, size.unwrap_or(0)))
    }
}
