//! Code objects of the target: names, line tables, and stores.

use std::sync::Arc;

use heaptide_process::memory::Read;

use super::lines::{Place, places};
use super::memory::Pages;
use super::paths::code_names;
use super::stores::stores;
pub(super) use super::stores::{Store, Via};
use super::types::{Shape, Types};

/// Identifies a code object: another one may replace it at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    filename: u64,
    name: u64,
    line_table: u64,
    first_line: u32,
}

/// A code object.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) identity: Identity,
    /// Qualified name; before 3.11 the name alone.
    pub(super) function: String,
    pub(super) file: Option<String>,
    places: Vec<Place>,
    pub(super) stores: Vec<Store>,
}

#[cfg(test)]
impl Code {
    /// Code with only a name and a file.
    pub(super) fn named(function: &str, file: &str) -> Self {
        Self {
            identity: Identity {
                filename: 0,
                name: 0,
                line_table: 0,
                first_line: 0,
            },
            function: function.to_owned(),
            file: Some(file.to_owned()),
            places: Vec::new(),
            stores: Vec::new(),
        }
    }
}

impl Identity {
    /// The identity of the code object at an address; `None` if there is none.
    pub(super) fn of<R: Read>(pages: &mut Pages<R>, types: &mut Types, code: u64) -> Option<Self> {
        if types.of(pages, code)?.shape != Shape::Code {
            return None;
        }
        let layout = types.layout();
        Some(Self {
            filename: pages.field(code, layout.code_filename)?,
            name: pages.field(code, layout.code_name)?,
            line_table: pages.field(code, layout.code_lines)?,
            first_line: pages.half(code.wrapping_add(layout.code_firstlineno))?,
        })
    }
}

impl Code {
    /// Reads the code object at an address.
    pub(super) fn read<R: Read>(
        pages: &mut Pages<R>,
        types: &mut Types,
        code: u64,
    ) -> Option<Arc<Self>> {
        let identity = Identity::of(pages, types, code)?;
        let (file, function) = code_names(pages, types, code);
        let layout = types.layout();
        let len = pages.field(identity.line_table, layout.ob_size)?;
        let first = identity.line_table.wrapping_add(layout.bytes_data);
        let table = pages.bytes(first, len)?;
        let places = places(layout.lines, &table, identity.first_line);
        let stores = stores(pages, types, code, &places).unwrap_or_default();
        Some(Arc::new(Self {
            identity,
            function: function?,
            file,
            places,
            stores,
        }))
    }

    /// The line of an instruction, whose offset is in words.
    pub(super) fn line(&self, instruction: u64) -> Option<u32> {
        let at = u32::try_from(instruction).ok()?;
        self.places.iter().find(|place| place.holds(at))?.line
    }

    /// Its size in the cache: line-table entries and stores.
    pub(super) fn weight(&self) -> usize {
        1 + self.places.len() + 4 * self.stores.len()
    }

    /// Its first line.
    pub(super) fn first_line(&self) -> u32 {
        self.identity.first_line
    }
}
