//! Stores of code objects: the names of the containers into which their instructions store.

use heaptide_process::memory::Read;

use super::layout::{Bytecode, Layout};
use super::lines::Place;
use super::memory::Pages;
use super::opcodes::Kind;
use super::paths;
use super::types::Types;
use super::variables::VariableNames;

/// Methods that add to the container on which they are called.
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
/// Maximum depth of the simulated stack.
const MAX_STACK: usize = 256;
/// Maximum stores recorded per code object.
const MAX_STORES: usize = 1024;

/// How a name is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Global,
    Attribute,
    /// Local or captured.
    Variable,
}

/// An instruction that stores into a named container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Store {
    /// The names that lead to the container; the last is its own (`self`, `cache`).
    pub(super) names: Vec<(Via, String)>,
    pub(super) line: u32,
}

/// Looks up names of a code object.
struct Names<'a, R> {
    pages: &'a mut Pages<R>,
    types: &'a mut Types,
    layout: &'a Layout,
    tuple: u64,
    variables: VariableNames,
}

impl<R: Read> Names<'_, R> {
    fn name(&mut self, index: u32) -> Option<String> {
        let at = self.layout.tuple_items + u64::from(index) * 8;
        let name = self.pages.field(self.tuple, at)?;
        paths::name_of(self.pages, self.types, name)
    }

    fn variable(&mut self, index: u32) -> Option<String> {
        let variables = self.variables;
        let name = variables.name(self.pages, self.layout, u64::from(index))?;
        paths::name_of(self.pages, self.types, name)
    }

    fn captured(&mut self, index: u32) -> Option<String> {
        let variables = self.variables;
        let name = variables.captured(self.pages, self.layout, u64::from(index))?;
        paths::name_of(self.pages, self.types, name)
    }

    fn load(&mut self, via: Via, index: u32) -> Option<String> {
        match via {
            Via::Global | Via::Attribute => self.name(index),
            Via::Variable => self.variable(index),
        }
    }
}

/// Finds the stores of a code object.
pub(super) fn stores<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    code: u64,
    places: &[Place],
) -> Option<Vec<Store>> {
    let layout = types.layout();
    let bytecode = match layout.bytecode {
        Bytecode::Inline(at) => {
            let words = pages.field(code, layout.ob_size)?;
            pages.bytes(code.wrapping_add(at), words.checked_mul(2)?)?
        }
        Bytecode::Object(at) => {
            let object = pages.field(code, at)?;
            let len = pages.field(object, layout.ob_size)?;
            pages.bytes(object.wrapping_add(layout.bytes_data), len)?
        }
    };
    let mut names = Names {
        tuple: pages.field(code, layout.code_names)?,
        variables: VariableNames::of(pages, &layout, code)?,
        pages,
        types,
        layout: &layout,
    };
    let instructions = instructions(&layout, &bytecode)?;
    let has_columns = places.iter().any(|place| place.column.is_some());
    Some(if has_columns {
        by_columns(&mut names, &instructions, places)
    } else {
        by_stack(&mut names, &instructions, places)
    })
}

/// An instruction: its offset in words, effect and argument.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    word: u32,
    kind: Kind,
    argument: u32,
}

fn instructions(layout: &Layout, bytecode: &[u8]) -> Option<Vec<Instruction>> {
    let mut all = Vec::new();
    let words: Vec<&[u8]> = bytecode.chunks_exact(2).collect();
    let (mut at, mut extension) = (0, 0u32);
    while let Some([opcode, argument]) = words.get(at) {
        if layout.instrumented.is_some_and(|first| *opcode >= first) {
            return None;
        }
        let row = layout.opcodes.iter().find(|row| row.2.contains(opcode));
        let (kind, caches) = row.map_or((Kind::Other, 0), |row| (row.0, row.1));
        let argument = extension << 8 | u32::from(*argument);
        if kind != Kind::Other && kind != Kind::Extended {
            all.push(Instruction {
                word: at as u32,
                kind,
                argument,
            });
        }
        extension = if kind == Kind::Extended { argument } else { 0 };
        at += 1 + usize::from(caches);
    }
    Some(all)
}

fn add(found: &mut Vec<Store>, names: Vec<(Via, String)>, line: Option<u32>) {
    let Some(line) = line.filter(|_| !names.is_empty()) else {
        return;
    };
    let store = Store { names, line };
    if found.len() < MAX_STORES && !found.contains(&store) {
        found.push(store);
    }
}

/// A load, call or store.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Load(Via, u32),
    Call(u32),
    Store,
}

fn operations(layout: &Layout, instruction: Instruction) -> [Option<Operation>; 2] {
    let argument = instruction.argument;
    let one = match instruction.kind {
        Kind::Global => Operation::Load(Via::Global, argument >> 1),
        Kind::Name => Operation::Load(Via::Global, argument),
        Kind::Attribute => Operation::Load(Via::Attribute, argument),
        Kind::AttributeOrMethod if argument & 1 == 1 => Operation::Call(argument >> 1),
        Kind::AttributeOrMethod => Operation::Load(Via::Attribute, argument >> 1),
        Kind::Method => Operation::Call(argument),
        Kind::Variable => Operation::Load(Via::Variable, argument),
        Kind::Variables => {
            return [argument >> 4, argument & 15]
                .map(|one| Some(Operation::Load(Via::Variable, one)));
        }
        Kind::StoreAndVariable => Operation::Load(Via::Variable, argument & 15),
        Kind::StoreItem => Operation::Store,
        Kind::Binary if layout.in_place.contains(&argument) => Operation::Store,
        _ => return [None, None],
    };
    [Some(one), None]
}

/// A store and the expression of its container begin at the same source position, so the names loaded from there on
/// lead to the container.
fn by_columns<R: Read>(
    names: &mut Names<'_, R>,
    instructions: &[Instruction],
    places: &[Place],
) -> Vec<Store> {
    let place = |word: u32| places.iter().find(|place| place.holds(word)).copied();
    let mut loads: Vec<(Place, Via, u32)> = Vec::new();
    let mut found: Vec<Store> = Vec::new();
    for instruction in instructions {
        let Some(at) = place(instruction.word) else {
            continue;
        };
        for step in operations(names.layout, *instruction).into_iter().flatten() {
            match step {
                Operation::Load(via, index) => {
                    loads.push((at, via, index));
                    continue;
                }
                Operation::Call(index) => {
                    let called = names.name(index);
                    if !called.is_some_and(|called| FILLING.contains(&called.as_str())) {
                        continue;
                    }
                }
                Operation::Store => {}
            }
            let begins = |load: &Place| load.line == at.line && load.column == at.column;
            if at.column.is_none() {
                continue;
            }
            // from the last one back to the start of the expression
            let mut chain = Vec::new();
            for (_, via, index) in loads.iter().rev().filter(|(load, ..)| begins(load)) {
                chain.extend(names.load(*via, *index).map(|name| (*via, name)));
                if *via != Via::Attribute {
                    break;
                }
            }
            chain.reverse();
            add(&mut found, chain, at.line);
        }
    }
    found
}

/// A value on the simulated stack.
#[derive(Clone, Debug, Default)]
enum Value {
    #[default]
    Unknown,
    /// The object that these names lead to.
    Named(Vec<(Via, String)>),
    /// A method of such an object, by name.
    Method(Vec<(Via, String)>, String),
}

/// The simulated value stack. Jumps are ignored: the values of one expression are computed in sequence.
#[derive(Default)]
struct Values(Vec<Value>);

impl Values {
    fn pop(&mut self) -> Value {
        self.0.pop().unwrap_or_default()
    }

    fn push(&mut self, value: Value) {
        if self.0.len() < MAX_STACK {
            self.0.push(value);
        }
    }

    fn change(&mut self, taken: u32, left: u32) {
        let kept = self.0.len().saturating_sub(taken as usize);
        self.0.truncate(kept);
        for _ in 0..(left as usize).min(MAX_STACK) {
            self.push(Value::Unknown);
        }
    }
}

/// Before 3.11 code has no columns: the simulated stack shows the container of a store.
fn by_stack<R: Read>(
    names: &mut Names<'_, R>,
    instructions: &[Instruction],
    places: &[Place],
) -> Vec<Store> {
    let mut found = Vec::new();
    let mut values = Values::default();
    let named = |via, name: Option<String>| {
        name.map_or(Value::Unknown, |name| Value::Named(vec![(via, name)]))
    };
    for Instruction {
        word,
        kind,
        argument,
    } in instructions.iter().copied()
    {
        let mut stored = None;
        match kind {
            Kind::Name => {
                let name = names.name(argument);
                values.push(named(Via::Global, name));
            }
            Kind::Variable => {
                let name = names.variable(argument);
                values.push(named(Via::Variable, name));
            }
            Kind::Captured => {
                let name = names.captured(argument);
                values.push(named(Via::Variable, name));
            }
            Kind::Attribute => {
                let value = match (values.pop(), names.name(argument)) {
                    (Value::Named(mut chain), Some(name)) => {
                        chain.push((Via::Attribute, name));
                        Value::Named(chain)
                    }
                    // attribute of an unknown object
                    (_, name) => named(Via::Attribute, name),
                };
                values.push(value);
            }
            Kind::Method => {
                let value = match (values.pop(), names.name(argument)) {
                    (Value::Named(chain), Some(name)) => Value::Method(chain, name),
                    _ => Value::Unknown,
                };
                values.push(value);
                values.push(Value::Unknown);
            }
            Kind::CallMethod => {
                values.change(argument.saturating_add(1), 0);
                if let Value::Method(chain, name) = values.pop()
                    && FILLING.contains(&name.as_str())
                {
                    stored = Some(chain);
                }
                values.push(Value::Unknown);
            }
            Kind::StoreItem => {
                values.pop();
                if let Value::Named(chain) = values.pop() {
                    stored = Some(chain);
                }
                values.pop();
            }
            Kind::InPlace => {
                values.pop();
                if let Value::Named(chain) = values.pop() {
                    stored = Some(chain);
                }
                values.push(Value::Unknown);
            }
            Kind::Copy(count) => {
                let from = values.0.len().saturating_sub(usize::from(count));
                let copied = values.0.get(from..).unwrap_or_default().to_vec();
                for value in copied {
                    values.push(value);
                }
            }
            Kind::Rotate(count) => {
                let value = values.pop();
                let below = usize::from(count).saturating_sub(1);
                let at = values.0.len().saturating_sub(below);
                values.0.insert(at, value);
            }
            Kind::Stack(taken, left) => values.change(u32::from(taken), u32::from(left)),
            Kind::Gather(each, more) => {
                let taken = argument.saturating_mul(u32::from(each));
                values.change(taken.saturating_add(u32::from(more)), 1);
            }
            Kind::CallUnpacked => values.change(2 + (argument & 1), 1),
            Kind::MakeFunction => values.change(2 + (argument & 15).count_ones(), 1),
            Kind::Format => values.change(1 + (argument >> 2 & 1), 1),
            Kind::Unpack => values.change(1, argument),
            Kind::Raise => values.change(argument, 0),
            _ => {}
        }
        if let Some(chain) = stored {
            let place = places.iter().find(|place| place.holds(word));
            add(&mut found, chain, place.and_then(|place| place.line));
        }
    }
    found
}
