//! Code objects of the target: their names, which line an instruction is of, and what they store into.

use std::sync::Arc;

use super::layout::Layout;
use super::memory::{Pages, Read};
use super::opcodes::{self, FIRST_INSTRUMENTED, Kind, Table};
use super::paths::{self, code_names};
use super::types::{Shape, Types};

/// Bytes of bytecode or of a line table that are read of one code object.
const MAX_BYTES: u64 = 256 << 10;
/// Methods that put something into the container they are called on.
const FILLING: &[&str] = &[
    "append",
    "appendleft",
    "add",
    "insert",
    "setdefault",
    "extend",
    "extendleft",
    "update",
    "__setitem__",
    "push",
    "put",
];
/// Arguments of the operators `+=` and `|=`.
const IN_PLACE: [u32; 2] = [13, 20];

/// What a code object is recognised by: others may come to lie where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    filename: u64,
    qualname: u64,
    line_table: u64,
    first_line: u32,
}

/// A code object.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) identity: Identity,
    /// Qualified name.
    pub(super) function: String,
    pub(super) file: Option<String>,
    places: Vec<Place>,
    pub(super) stores: Vec<Store>,
}

#[cfg(test)]
impl Code {
    /// Code with nothing but a name and a file.
    pub(super) fn named(function: &str, file: &str) -> Self {
        Self {
            identity: Identity {
                filename: 0,
                qualname: 0,
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

/// How a name is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Global,
    Attribute,
    /// Of the function, or captured by it.
    Variable,
}

/// A place where something is stored into what a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Store {
    /// The names that lead there, the last is the container's (`self`, `cache`).
    pub(super) names: Vec<(Via, String)>,
    pub(super) line: u32,
}

/// Source position of a run of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// First instruction, in words.
    from: u32,
    /// The first after it.
    to: u32,
    line: Option<u32>,
    column: Option<u32>,
}

impl Identity {
    /// Of the code object at an address; `None` when there is none.
    pub(super) fn of<R: Read>(pages: &mut Pages<R>, types: &mut Types, code: u64) -> Option<Self> {
        if types.of(pages, code)?.shape != Shape::Code {
            return None;
        }
        let first_line = types.layout().code_firstlineno;
        Some(Self {
            filename: pages.field(code, Layout::CODE_FILENAME)?,
            qualname: pages.field(code, Layout::CODE_QUALNAME)?,
            line_table: pages.field(code, Layout::CODE_LINETABLE)?,
            first_line: pages.half(code.wrapping_add(first_line))?,
        })
    }
}

impl Code {
    /// Reads the code object at an address.
    pub(super) fn read<R: Read>(
        pages: &mut Pages<R>,
        types: &mut Types,
        minor: u8,
        code: u64,
    ) -> Option<Arc<Self>> {
        let identity = Identity::of(pages, types, code)?;
        let (file, function) = code_names(pages, types, code);
        let len = pages.field(identity.line_table, Layout::OB_SIZE)?;
        let table = bytes(
            pages,
            identity.line_table.wrapping_add(Layout::BYTES_DATA),
            len,
        )?;
        let places = places(&table, identity.first_line);
        let stores = stores(pages, types, minor, code, &places).unwrap_or_default();
        Some(Arc::new(Self {
            identity,
            function: function?,
            file,
            places,
            stores,
        }))
    }

    /// The line of an instruction, given in words.
    pub(super) fn line(&self, instruction: u64) -> Option<u32> {
        let at = u32::try_from(instruction).ok()?;
        self.places.iter().find(|place| place.holds(at))?.line
    }

    /// The line it begins on.
    pub(super) fn first_line(&self) -> u32 {
        self.identity.first_line
    }
}

impl Place {
    fn holds(&self, instruction: u32) -> bool {
        (self.from..self.to).contains(&instruction)
    }
}

fn bytes<R: Read>(pages: &mut Pages<R>, address: u64, len: u64) -> Option<Vec<u8>> {
    if len > MAX_BYTES {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    pages.raw(address, &mut bytes).then_some(bytes)
}

/// The location table of 3.11 and later (`Objects/locations.md`).
fn places(table: &[u8], first_line: u32) -> Vec<Place> {
    const NONE: u8 = 15;
    const LONG: u8 = 14;
    const NO_COLUMNS: u8 = 13;
    const ONE_LINE: u8 = 10;
    let mut places = Vec::new();
    let mut line = i64::from(first_line);
    let mut at = 0u32;
    let mut rest = table.iter().copied().peekable();
    while let Some(head) = rest.next() {
        let code = head >> 3 & 15;
        let words = u32::from(head & 7) + 1;
        let mut column = None;
        match code {
            NONE => {}
            LONG => {
                line += signed(&mut rest);
                number(&mut rest);
                column = number(&mut rest).checked_sub(1);
                number(&mut rest);
            }
            NO_COLUMNS => line += signed(&mut rest),
            ONE_LINE.. => {
                line += i64::from(code - ONE_LINE);
                column = rest.next().map(u64::from);
                rest.next();
            }
            _ => {
                let second = rest.next().unwrap_or(0);
                column = Some(u64::from(code) << 3 | u64::from(second >> 4));
            }
        }
        places.push(Place {
            from: at,
            to: at + words,
            line: u32::try_from(line).ok().filter(|_| code != NONE),
            column: column.and_then(|column| u32::try_from(column).ok()),
        });
        at += words;
    }
    places
}

/// Six bits a byte, the lowest first; the seventh says that more follow.
fn number(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let mut value = 0;
    for shift in (0..60).step_by(6) {
        let byte = bytes.next().unwrap_or(0);
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            break;
        }
    }
    value
}

/// The same with the sign in the lowest bit.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    let value = number(bytes);
    let half = (value >> 1) as i64;
    if value & 1 == 1 { -half } else { half }
}

/// What an opcode does and how many words of cache follow it.
fn meaning(table: &Table, opcode: u8) -> (Kind, u8) {
    let row = table.iter().find(|row| row.2.contains(&opcode));
    row.map_or((Kind::Other, 0), |row| (row.0, row.1))
}

/// An instruction that loads a name or stores into a container.
#[derive(Clone, Copy, Debug)]
enum Step {
    Load(Via, u32),
    Call(u32),
    Store,
}

fn steps(minor: u8, bytecode: &[u8]) -> Option<Vec<(u32, Step)>> {
    let table = opcodes::table(minor)?;
    let mut steps = Vec::new();
    let words: Vec<&[u8]> = bytecode.chunks_exact(2).collect();
    let (mut at, mut extension) = (0, 0u32);
    while let Some([opcode, argument]) = words.get(at) {
        if *opcode >= FIRST_INSTRUMENTED && minor > 11 {
            return None;
        }
        let (kind, caches) = meaning(table, *opcode);
        let argument = extension << 8 | u32::from(*argument);
        let word = at as u32;
        let mut push = |step| steps.push((word, step));
        match kind {
            Kind::Global if is_load_name(minor, *opcode) => push(Step::Load(Via::Global, argument)),
            Kind::Global => push(Step::Load(Via::Global, argument >> 1)),
            Kind::Attribute if minor == 11 => push(Step::Load(Via::Attribute, argument)),
            Kind::Attribute if argument & 1 == 1 => push(Step::Call(argument >> 1)),
            Kind::Attribute => push(Step::Load(Via::Attribute, argument >> 1)),
            Kind::Method => push(Step::Call(argument)),
            Kind::Variable => push(Step::Load(Via::Variable, argument)),
            Kind::Variables => {
                push(Step::Load(Via::Variable, argument >> 4));
                push(Step::Load(Via::Variable, argument & 15));
            }
            Kind::StoreAndVariable => push(Step::Load(Via::Variable, argument & 15)),
            Kind::StoreItem => push(Step::Store),
            Kind::Binary if IN_PLACE.contains(&argument) => push(Step::Store),
            Kind::Binary | Kind::Extended | Kind::Other => {}
        }
        extension = if kind == Kind::Extended { argument } else { 0 };
        at += 1 + usize::from(caches);
    }
    Some(steps)
}

/// `LOAD_NAME`, whose argument is the name itself.
fn is_load_name(minor: u8, opcode: u8) -> bool {
    opcode == if minor == 13 { 92 } else { 101 }
}

/// Finds the stores of a code object. An expression and what is stored into begin at the same place of the
/// source, so the names loaded from there lead to the container.
fn stores<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    minor: u8,
    code: u64,
    places: &[Place],
) -> Option<Vec<Store>> {
    let words = pages.field(code, Layout::OB_SIZE)?;
    let first = code.wrapping_add(types.layout().code_bytecode);
    let bytecode = bytes(pages, first, words.checked_mul(2)?)?;
    let names = pages.field(code, Layout::CODE_NAMES)?;
    let variables = pages.field(code, Layout::CODE_LOCALSPLUSNAMES)?;
    let mut name = |tuple: u64, index: u32| {
        let name = pages.field(tuple, 24 + u64::from(index) * 8)?;
        paths::name_of(pages, types, name)
    };
    let place = |word: u32| places.iter().find(|place| place.holds(word)).copied();
    let mut loads: Vec<(Place, Via, u32)> = Vec::new();
    let mut found: Vec<Store> = Vec::new();
    for (word, step) in steps(minor, &bytecode)? {
        let Some(at) = place(word) else { continue };
        match step {
            Step::Load(via, index) => {
                loads.push((at, via, index));
                continue;
            }
            Step::Call(index) => {
                let called = name(names, index);
                if !called.is_some_and(|called| FILLING.contains(&called.as_str())) {
                    continue;
                }
            }
            Step::Store => {}
        }
        let begins = |load: &Place| load.line == at.line && load.column == at.column;
        if at.column.is_none() {
            continue;
        }
        // from the last one back to the one that the expression begins with
        let mut chain = Vec::new();
        for (_, via, index) in loads.iter().rev().filter(|(load, ..)| begins(load)) {
            let tuple = if *via == Via::Variable {
                variables
            } else {
                names
            };
            chain.extend(name(tuple, *index).map(|name| (*via, name)));
            if *via != Via::Attribute {
                break;
            }
        }
        chain.reverse();
        if let (false, Some(line)) = (chain.is_empty(), at.line) {
            let store = Store { names: chain, line };
            if !found.contains(&store) {
                found.push(store);
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `co_linetable` of a function of 3.12 that begins on line 10.
    #[test]
    fn the_location_table_is_read() {
        // RESUME; short form at column 8; one line further; long form; no location
        let table = [
            0x80, 0x00, 0x81, 0x84, 0xd8, 0x04, 0x09, 0xf0, 0x04, 0x00, 0x05, 0x0a, 0xf8,
        ];
        let places = places(&table, 10);
        let seen: Vec<_> = places
            .iter()
            .map(|p| (p.from, p.to, p.line, p.column))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 1, Some(10), Some(0)),
                (1, 3, Some(10), Some(8)),
                (3, 4, Some(11), Some(4)),
                (4, 5, Some(13), Some(4)),
                (5, 6, None, None),
            ]
        );
    }
}
