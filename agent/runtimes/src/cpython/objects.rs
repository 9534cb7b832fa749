//! Reads the target's containers and namespaces: what lies in them, and whether it makes sense.

use super::layout::{Instance, Layout};
use super::memory::{Pages, Read};
use super::types::{Shape, TypeInfo, Types};

/// Entries that no container of a process that fits a machine has.
const MAX_ENTRIES: u64 = 1 << 36;
/// Entries of one container that are read.
const MAX_READ: u64 = 1 << 22;
/// Words of the structure of an extension's object that are looked at.
const MAX_FIELDS: u64 = 256;

/// What was read does not make sense, because the program changed it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn;

/// Reads what is there, or says that it is torn.
pub(super) trait OrTorn<T> {
    fn or_torn(self) -> Result<T, Torn>;
}

impl<T> OrTorn<T> for Option<T> {
    fn or_torn(self) -> Result<T, Torn> {
        self.ok_or(Torn)
    }
}

pub(super) fn ensure(holds: bool) -> Result<(), Torn> {
    if holds { Ok(()) } else { Err(Torn) }
}

/// A container's size and table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Entries.
    pub(super) entries: u64,
    /// Bytes of the container itself, its table included.
    pub(super) bytes: u64,
}

/// A dictionary's entries: `(key, value)` addresses, those without a value left out.
pub(super) fn dict<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    object: u64,
    to: &mut Vec<(u64, u64)>,
    scratch: &mut Vec<u64>,
) -> Result<Held, Torn> {
    to.clear();
    let used = pages.field(object, 16).or_torn()?;
    let keys = pages.field(object, 32).or_torn()?;
    let values = pages.field(object, 40).or_torn()?;
    ensure(used < MAX_ENTRIES && keys & 7 == 0)?;
    let table = KeyTable::read(pages, keys).inspect_err(|_| pages.forget(keys, 32))?;
    if values == 0 && used > table.entries {
        pages.forget(keys, 32);
        return Err(Torn);
    }
    table.pairs(pages, layout, values, to, scratch)?;
    Ok(Held {
        entries: used,
        bytes: 48 + 16 + table.bytes,
    })
}

/// A `PyDictKeysObject`.
#[derive(Clone, Copy)]
struct KeyTable {
    start: u64,
    stride: u64,
    entries: u64,
    split: bool,
    bytes: u64,
}

impl KeyTable {
    fn read<R: Read>(pages: &mut Pages<R>, keys: u64) -> Result<Self, Torn> {
        let head = pages.field(keys, 8).or_torn()?;
        let usable = pages.field(keys, 16).or_torn()?;
        let entries = pages.field(keys, 24).or_torn()?;
        let (log_size, log_index, kind) = (head & 0xff, head >> 8 & 0xff, head >> 16 & 0xff);
        ensure(log_size <= 40 && log_index <= log_size + 3 && kind <= 2)?;
        ensure(entries <= 1 << log_size && usable <= 1 << log_size)?;
        let stride = if kind == 0 { 3 } else { 2 };
        let start = keys.wrapping_add(32 + (1 << log_index));
        Ok(Self {
            start,
            stride,
            entries,
            split: kind == 2,
            bytes: 32 + (1 << log_index) + (entries + usable) * stride * 8,
        })
    }

    fn pairs<R: Read>(
        &self,
        pages: &mut Pages<R>,
        layout: &Layout,
        values: u64,
        to: &mut Vec<(u64, u64)>,
        scratch: &mut Vec<u64>,
    ) -> Result<(), Torn> {
        let count = self.entries.min(MAX_READ);
        ensure(pages.words(self.start, (count * self.stride) as usize, scratch))?;
        let skip = self.stride as usize - 2;
        to.extend(
            scratch
                .chunks_exact(self.stride as usize)
                .map(|entry| (entry[skip], entry[skip + 1])),
        );
        if self.split && values != 0 {
            // keys are shared with other instances, values are an array of their own
            ensure(pages.words(
                values.wrapping_add(layout.values_first),
                count as usize,
                scratch,
            ))?;
            for (pair, value) in to.iter_mut().zip(scratch.iter()) {
                pair.1 = *value;
            }
        }
        to.retain(|(_, value)| *value != 0);
        Ok(())
    }
}

/// The attributes of an instance, as far as they are in a dictionary or in slots.
pub(super) fn attributes<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    object: u64,
    info: &TypeInfo,
    to: &mut Vec<(u64, u64)>,
    scratch: &mut Vec<u64>,
) -> Result<Option<u64>, Torn> {
    to.clear();
    let layout = *types.layout();
    let mut dictionary = 0;
    if info.managed {
        let dict_word = pages.word(object.wrapping_sub(24)).or_torn()?;
        let values = match layout.instance {
            Instance::TwoWords => pages.word(object.wrapping_sub(32)).or_torn()?,
            Instance::Tagged if dict_word & 1 == 1 => dict_word.wrapping_add(1),
            Instance::Inline if info.inline_values && dict_word == 0 => object.wrapping_add(16),
            Instance::Tagged | Instance::Inline => 0,
        };
        let tagged = layout.instance == Instance::Tagged && dict_word & 1 == 1;
        if values != 0 && (dict_word == 0 || tagged) {
            let class = pages.field(object, Layout::OB_TYPE).or_torn()?;
            let keys = pages.field(class, layout.ht_cached_keys).or_torn()?;
            if keys != 0 {
                KeyTable::read(pages, keys)?.pairs(pages, &layout, values, to, scratch)?;
            }
        } else if !tagged {
            dictionary = dict_word;
        }
    } else if info.dictoffset > 0 && (info.dictoffset as u64) < info.basicsize {
        dictionary = pages.field(object, info.dictoffset as u64).or_torn()?;
    }
    if dictionary != 0 {
        let shape = types.of(pages, dictionary).or_torn()?.shape;
        ensure(shape == Shape::Dict)?;
        dict(pages, &layout, dictionary, to, scratch)?;
    }
    Ok((dictionary != 0).then_some(dictionary))
}

/// Values in `__slots__`, with their names.
pub(super) fn slots<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    object: u64,
    info: &TypeInfo,
    to: &mut Vec<(u64, u64)>,
    scratch: &mut Vec<u64>,
) -> Result<(), Torn> {
    to.clear();
    let layout = *types.layout();
    let mut class = pages.field(object, Layout::OB_TYPE).or_torn()?;
    let mut here = *info;
    // names lie with the class that declared them, values behind those of its base
    for _ in 0..16 {
        if !here.class || here.base == 0 {
            break;
        }
        let base = types.at(pages, here.base).or_torn()?;
        let names = pages.field(class, layout.ht_slots).or_torn()?;
        if names != 0 && types.of(pages, names).or_torn()?.shape == Shape::Tuple {
            let count = pages.field(names, Layout::OB_SIZE).or_torn()?;
            ensure(count < 1024 && base.basicsize + count * 8 <= here.basicsize)?;
            for index in 0..count {
                let name = pages.field(names, 24 + index * 8).or_torn()?;
                let value = pages.field(object, base.basicsize + index * 8).or_torn()?;
                to.push((name, value));
            }
        }
        class = here.base;
        here = base;
    }
    to.retain(|(_, value)| *value != 0);
    scratch.clear();
    Ok(())
}

/// The references of a sequence or a set, and its size.
pub(super) fn items<R: Read>(
    pages: &mut Pages<R>,
    shape: Shape,
    object: u64,
    to: &mut Vec<u64>,
) -> Result<Held, Torn> {
    to.clear();
    let size = pages.field(object, Layout::OB_SIZE).or_torn()?;
    ensure(size < MAX_ENTRIES)?;
    let read = size.min(MAX_READ);
    match shape {
        Shape::List => {
            let first = pages.field(object, 24).or_torn()?;
            let allocated = pages.field(object, 32).or_torn()?;
            ensure(size <= allocated && allocated < MAX_ENTRIES)?;
            ensure(size == 0 || pages.words(first, read as usize, to))?;
            Ok(Held {
                entries: size,
                bytes: 40 + 16 + allocated * 8,
            })
        }
        Shape::Tuple => {
            ensure(pages.words(object.wrapping_add(24), read as usize, to))?;
            Ok(Held {
                entries: size,
                bytes: 24 + 16 + size * 8,
            })
        }
        Shape::Set => set(pages, object, to),
        Shape::Deque => deque(pages, object, size, to),
        _ => Err(Torn),
    }
}

fn set<R: Read>(pages: &mut Pages<R>, object: u64, to: &mut Vec<u64>) -> Result<Held, Torn> {
    let fill = pages.field(object, 16).or_torn()?;
    let used = pages.field(object, 24).or_torn()?;
    let mask = pages.field(object, 32).or_torn()?;
    let table = pages.field(object, 40).or_torn()?;
    ensure(mask < MAX_ENTRIES && (mask + 1).is_power_of_two() && used <= fill && fill <= mask)?;
    ensure(pages.words(table, ((mask + 1).min(MAX_READ) * 2) as usize, to))?;
    // {key, hash}; a key that was taken out has the hash -1
    let mut index = 0;
    let pairs = to.len() / 2;
    for pair in 0..pairs {
        if to[pair * 2] != 0 && to[pair * 2 + 1] != u64::MAX {
            to[index] = to[pair * 2];
            index += 1;
        }
    }
    to.truncate(index);
    let own = if mask > 7 { (mask + 1) * 16 } else { 0 };
    Ok(Held {
        entries: used,
        bytes: 200 + 16 + own,
    })
}

fn deque<R: Read>(
    pages: &mut Pages<R>,
    object: u64,
    size: u64,
    to: &mut Vec<u64>,
) -> Result<Held, Torn> {
    const BLOCK: u64 = 64;
    let mut block = pages.field(object, 24).or_torn()?;
    let mut index = pages.field(object, 40).or_torn()?;
    ensure(index <= BLOCK)?;
    let mut left = size.min(MAX_READ);
    while left > 0 {
        if index == BLOCK {
            block = pages.field(block, 8 + BLOCK * 8).or_torn()?;
            index = 0;
        }
        to.push(pages.field(block, 8 + index * 8).or_torn()?);
        index += 1;
        left -= 1;
    }
    Ok(Held {
        entries: size,
        bytes: 216 + 16 + (size / BLOCK + 1) * (BLOCK + 2) * 8,
    })
}

/// The words of an object's structure that could be addresses of others.
pub(super) fn fields<R: Read>(
    pages: &mut Pages<R>,
    object: u64,
    info: &TypeInfo,
    to: &mut Vec<u64>,
) -> Result<(), Torn> {
    let words = (info.basicsize / 8).min(MAX_FIELDS);
    ensure(pages.words(object, words as usize, to))?;
    to.drain(..to.len().min(2));
    Ok(())
}
