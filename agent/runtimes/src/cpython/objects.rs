//! Reads the target's containers and namespaces, and checks them for consistency. Large ones are sampled, a few
//! words at each position.

use heaptide_process::memory::Read;

use super::layout::{Instance, KeysSize, Layout};
use super::memory::Pages;
use super::types::{Shape, TypeInfo, Types};

/// More entries than fit into any machine's memory.
const MAX_ENTRIES: u64 = 1 << 36;
/// A container with more slots is sampled.
const SAMPLED_FROM: u64 = 8192;
/// Sampled slots of a container.
const SAMPLE: u64 = 512;
/// Maximum words of an extension object that are read.
const MAX_FIELDS: u64 = 256;

/// What was read is inconsistent, because the program changed it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn;

/// Turns a failed read into `Torn`.
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
    /// Only a sample of its entries was read.
    pub(super) sampled: bool,
}

/// Distance between sampled slots.
fn stride(places: u64) -> u64 {
    if places <= SAMPLED_FROM {
        1
    } else {
        places.div_ceil(SAMPLE)
    }
}

/// Reads an array of fixed-size records: all, or a sample.
fn records<R: Read>(
    pages: &mut Pages<R>,
    start: u64,
    count: u64,
    words: u64,
    to: &mut Vec<u64>,
) -> Result<(), Torn> {
    let step = stride(count);
    if step == 1 {
        return ensure(pages.words(start, (count * words) as usize, to));
    }
    to.clear();
    for index in (0..count).step_by(step as usize) {
        let record = start.wrapping_add(index * words * 8);
        for word in 0..words {
            to.push(pages.field(record, word * 8).or_torn()?);
        }
    }
    Ok(())
}

/// A dictionary's entries: addresses of `(key, value)`, without deleted ones.
pub(super) fn dict<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    object: u64,
    to: &mut Vec<(u64, u64)>,
    scratch: &mut Vec<u64>,
) -> Result<Held, Torn> {
    to.clear();
    let used = pages.field(object, layout.dict_used).or_torn()?;
    let keys = pages.field(object, layout.dict_keys).or_torn()?;
    let values = pages.field(object, layout.dict_values).or_torn()?;
    ensure(used < MAX_ENTRIES && keys & 7 == 0)?;
    let head = layout.keys_indices;
    let table = KeyTable::read(pages, layout, keys).inspect_err(|_| pages.forget(keys, head))?;
    if values == 0 && used > table.entries {
        pages.forget(keys, head);
        return Err(Torn);
    }
    table.pairs(pages, layout, values, to, scratch)?;
    Ok(Held {
        entries: used,
        bytes: layout.dict_bytes + layout.gc_head + table.bytes,
        sampled: stride(table.entries) > 1,
    })
}

/// A `PyDictKeysObject`.
#[derive(Clone, Copy)]
struct KeyTable {
    start: u64,
    stride: u64,
    entries: u64,
    /// Keys may be shared with other instances; each has its own values.
    split: bool,
    bytes: u64,
}

impl KeyTable {
    fn read<R: Read>(pages: &mut Pages<R>, layout: &Layout, keys: u64) -> Result<Self, Torn> {
        let usable = pages.field(keys, layout.keys_usable).or_torn()?;
        let entries = pages.field(keys, layout.keys_entries).or_torn()?;
        let (places, index_bytes, stride, split) = match layout.keys_size {
            KeysSize::Number(at) => {
                let places = pages.field(keys, at).or_torn()?;
                ensure(places.is_power_of_two() && places <= 1 << 40)?;
                let width = match places {
                    ..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                (places, places * width, 3, true)
            }
            KeysSize::Logarithms {
                size,
                index_bytes,
                kind,
            } => {
                let mut byte = |at| pages.byte(keys.wrapping_add(at)).or_torn();
                let (size, index, kind) = (byte(size)?, byte(index_bytes)?, byte(kind)?);
                ensure(size <= 40 && index <= size + 3 && kind <= 2)?;
                let stride = if kind == 0 { 3 } else { 2 };
                (1 << size, 1 << index, stride, kind == 2)
            }
        };
        ensure(entries <= places && usable <= places)?;
        Ok(Self {
            start: keys.wrapping_add(layout.keys_indices + index_bytes),
            stride,
            entries,
            split,
            bytes: layout.keys_indices + index_bytes + (entries + usable) * stride * 8,
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
        records(pages, self.start, self.entries, self.stride, scratch)?;
        let skip = self.stride as usize - 2;
        to.extend(
            scratch
                .chunks_exact(self.stride as usize)
                .map(|entry| (entry[skip], entry[skip + 1])),
        );
        if self.split && values != 0 {
            // keys are shared with other instances, values are in a separate array
            let first = values.wrapping_add(layout.values_first);
            records(pages, first, self.entries, 1, scratch)?;
            for (pair, value) in to.iter_mut().zip(scratch.iter()) {
                pair.1 = *value;
            }
        }
        to.retain(|(_, value)| *value != 0);
        Ok(())
    }
}

/// The attributes of an instance that are in a dictionary or in slots.
pub(super) fn attributes<R: Read>(
    pages: &mut Pages<R>,
    types: &mut Types,
    object: u64,
    info: &TypeInfo,
    to: &mut Vec<(u64, u64)>,
    scratch: &mut Vec<u64>,
) -> Result<Option<u64>, Torn> {
    to.clear();
    let layout = types.layout();
    let mut dictionary = 0;
    if info.managed {
        let dict_word = pages.word(object.wrapping_sub(24)).or_torn()?;
        let values = match layout.instance {
            Instance::TwoWords => pages.word(object.wrapping_sub(32)).or_torn()?,
            Instance::Tagged if dict_word & 1 == 1 => dict_word.wrapping_add(1),
            Instance::Inline if info.inline_values && dict_word == 0 => {
                object.wrapping_add(info.basicsize)
            }
            Instance::Tagged | Instance::Inline | Instance::Unmanaged => 0,
        };
        let tagged = layout.instance == Instance::Tagged && dict_word & 1 == 1;
        if values != 0 && (dict_word == 0 || tagged) {
            let class = pages.field(object, layout.ob_type).or_torn()?;
            let keys = pages.field(class, layout.ht_cached_keys).or_torn()?;
            if keys != 0 {
                KeyTable::read(pages, &layout, keys)?.pairs(pages, &layout, values, to, scratch)?;
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
    let layout = types.layout();
    let mut class = pages.field(object, layout.ob_type).or_torn()?;
    let mut here = *info;
    // names are in the class that declared them, values after those of its base
    for _ in 0..16 {
        if !here.class || here.base == 0 {
            break;
        }
        let base = types.at(pages, here.base).or_torn()?;
        let names = pages.field(class, layout.ht_slots).or_torn()?;
        if names != 0 && types.of(pages, names).or_torn()?.shape == Shape::Tuple {
            let count = pages.field(names, layout.ob_size).or_torn()?;
            ensure(count < 1024 && base.basicsize + count * 8 <= here.basicsize)?;
            for index in 0..count {
                let name = pages
                    .field(names, layout.tuple_items + index * 8)
                    .or_torn()?;
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

/// The references in a sequence or set, and its size.
pub(super) fn items<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    shape: Shape,
    object: u64,
    to: &mut Vec<u64>,
) -> Result<Held, Torn> {
    to.clear();
    let size = pages.field(object, layout.ob_size).or_torn()?;
    let sampled = stride(size) > 1;
    match shape {
        Shape::List => {
            ensure(size < MAX_ENTRIES)?;
            let first = pages.field(object, layout.list_items).or_torn()?;
            let allocated = pages.field(object, layout.list_allocated).or_torn()?;
            ensure(size <= allocated && allocated < MAX_ENTRIES)?;
            records(pages, first, size, 1, to)?;
            Ok(Held {
                entries: size,
                bytes: layout.list_allocated + 8 + layout.gc_head + allocated * 8,
                sampled,
            })
        }
        Shape::Tuple => {
            ensure(size < MAX_ENTRIES)?;
            let items = object.wrapping_add(layout.tuple_items);
            records(pages, items, size, 1, to)?;
            Ok(Held {
                entries: size,
                bytes: layout.tuple_items + layout.gc_head + size * 8,
                sampled,
            })
        }
        Shape::Set => set(pages, layout, object, to),
        Shape::Deque => deque(pages, layout, object, size, to),
        _ => Err(Torn),
    }
}

fn set<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    object: u64,
    to: &mut Vec<u64>,
) -> Result<Held, Torn> {
    let fill = pages.field(object, layout.set_fill).or_torn()?;
    let used = pages.field(object, layout.set_used).or_torn()?;
    let mask = pages.field(object, layout.set_mask).or_torn()?;
    let table = pages.field(object, layout.set_table).or_torn()?;
    ensure(mask < MAX_ENTRIES && (mask + 1).is_power_of_two() && used <= fill && fill <= mask)?;
    records(pages, table, mask + 1, 2, to)?;
    // {key, hash}; a deleted key has the hash -1
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
        bytes: layout.set_bytes + layout.gc_head + own,
        sampled: stride(mask + 1) > 1,
    })
}

/// Its blocks are a list: of a large deque the first ones are read.
fn deque<R: Read>(
    pages: &mut Pages<R>,
    layout: &Layout,
    object: u64,
    size: u64,
    to: &mut Vec<u64>,
) -> Result<Held, Torn> {
    let room = layout.deque_block;
    let mut block = pages.field(object, layout.deque_left).or_torn()?;
    let mut index = pages.field(object, layout.deque_left_index).or_torn()?;
    ensure(size < MAX_ENTRIES && index <= room)?;
    let sampled = size > SAMPLED_FROM;
    let mut left = if sampled { SAMPLE } else { size };
    while left > 0 {
        if index == room {
            block = pages.field(block, layout.deque_block_next).or_torn()?;
            index = 0;
        }
        let at = layout.deque_block_data + index * 8;
        to.push(pages.field(block, at).or_torn()?);
        index += 1;
        left -= 1;
    }
    Ok(Held {
        entries: size,
        bytes: layout.deque_bytes + layout.gc_head + (size / room + 1) * (room + 2) * 8,
        sampled,
    })
}

/// The words of an object that could be addresses of other objects.
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
