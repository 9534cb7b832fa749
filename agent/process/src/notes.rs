//! Static probes (USDT): the notes of `sys/sdt.h` in a file, and the locations of their arguments.

use heaptide_ebpf::{Operand, operand};

use crate::elf::Elf;
use crate::files::caps;

/// The section of the notes. It is not loaded, and `strip` keeps it.
const SECTION: &str = ".note.stapsdt";
/// Its address, compared with the one in the notes, tells whether addresses moved after linking.
const BASE: &str = ".stapsdt.base";
const OWNER: &[u8] = b"stapsdt\0";
const KIND: u32 = 3;

/// Registers in encoding order, with their 32-bit names.
const REGISTERS: [[&str; 2]; 16] = [
    ["rax", "eax"],
    ["rcx", "ecx"],
    ["rdx", "edx"],
    ["rbx", "ebx"],
    ["rsp", "esp"],
    ["rbp", "ebp"],
    ["rsi", "esi"],
    ["rdi", "edi"],
    ["r8", "r8d"],
    ["r9", "r9d"],
    ["r10", "r10d"],
    ["r11", "r11d"],
    ["r12", "r12d"],
    ["r13", "r13d"],
    ["r14", "r14d"],
    ["r15", "r15d"],
];

/// A static probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticProbe {
    /// Its name within its provider.
    pub name: String,
    /// Address in the file.
    pub address: u64,
    /// Address of its semaphore, 0 if it has none.
    pub semaphore: u64,
    /// Locations of its arguments; `None` if heaptide does not support them.
    pub arguments: Option<Vec<Operand>>,
}

/// The static probes of one provider in a file.
pub fn of_provider(elf: &Elf, provider: &str) -> Vec<StaticProbe> {
    let Some(section) = elf.section(SECTION) else {
        return Vec::new();
    };
    if section.size > caps::NOTES {
        elf.capped("its notes of static probes are larger than 1 MiB and are not read");
        return Vec::new();
    }
    let Some(notes) = elf.section_bytes(section) else {
        return Vec::new();
    };
    let base = elf.section(BASE).map(|section| section.address);
    parse(&notes, base, provider)
}

/// The static probes of one provider, at most [`caps::STATIC_PROBES`].
fn parse(mut bytes: &[u8], base: Option<u64>, provider: &str) -> Vec<StaticProbe> {
    let mut found = Vec::new();
    while let Some((name, description, kind, rest)) = note(bytes) {
        bytes = rest;
        if name == OWNER && kind == KIND {
            let known = probe(description, base).filter(|(of, _)| of == provider);
            found.extend(known.map(|(_, probe)| probe));
        }
        if found.len() >= caps::STATIC_PROBES {
            break;
        }
    }
    found
}

/// Name, descriptor, type, remaining bytes.
type Note<'data> = (&'data [u8], &'data [u8], u32, &'data [u8]);

/// The first note.
fn note(bytes: &[u8]) -> Option<Note<'_>> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (name_len, len) = (number(0)? as usize, number(4)? as usize);
    let name = bytes.get(12..12usize.checked_add(name_len)?)?;
    let start = 12 + name_len.next_multiple_of(4);
    let description = bytes.get(start..start.checked_add(len)?)?;
    let rest = bytes
        .get(start + len.next_multiple_of(4)..)
        .unwrap_or_default();
    Some((name, description, number(8)?, rest))
}

fn probe(description: &[u8], base: Option<u64>) -> Option<(String, StaticProbe)> {
    let word = |at: usize| {
        let bytes = description.get(at * 8..at * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let moved = base.map_or(0, |base| base.wrapping_sub(word(1).unwrap_or(base)));
    let mut texts = description
        .get(24..)?
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let (provider, name, arguments) = (texts.next()?, texts.next()?, texts.next()?);
    let semaphore = match word(2)? {
        0 => 0,
        address => address.wrapping_add(moved),
    };
    let address = word(0)?.wrapping_add(moved);
    let arguments = arguments.split_whitespace().map(argument).collect();
    Some((
        provider,
        StaticProbe {
            name,
            address,
            semaphore,
            arguments,
        },
    ))
}

/// `8@%rdi`, `-4@%eax`, `8@-16(%rbp)`, `8@$64`.
fn argument(text: &str) -> Option<Operand> {
    let (size, place) = text.split_once('@')?;
    let wide = match size {
        "8" | "-8" => true,
        "4" | "-4" => false,
        _ => return None,
    };
    if let Some(constant) = place.strip_prefix('$') {
        return Operand::new(operand::CONSTANT, 0, wide, constant.parse().ok()?);
    }
    if let Some(name) = place.strip_prefix('%') {
        return Operand::new(operand::REGISTER, register(name)?, wide, 0);
    }
    let (offset, rest) = place.split_once("(%")?;
    let offset = if offset.is_empty() {
        0
    } else {
        offset.parse().ok()?
    };
    let base = register(rest.strip_suffix(')')?)?;
    Operand::new(operand::MEMORY, base, wide, offset)
}

fn register(name: &str) -> Option<u32> {
    let at = REGISTERS.iter().position(|names| names.contains(&name))?;
    u32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(arguments: &str) -> Vec<u8> {
        let mut description = Vec::new();
        for word in [0x1130_u64, 0x2000, 0x4010] {
            description.extend(word.to_le_bytes());
        }
        description.extend(format!("otel_memory\0alloc\0{arguments}\0").bytes());
        let mut note = Vec::new();
        for number in [8, description.len() as u32, 3] {
            note.extend(number.to_le_bytes());
        }
        note.extend(OWNER);
        note.extend(&description);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    #[test]
    fn notes_are_read() {
        let mut two = bytes("8@%rdi 8@-16(%rbp) 8@$64");
        two.extend(bytes("8@%xmm0"));
        let found = parse(&two, Some(0x2000), "otel_memory");
        assert_eq!(found.len(), 2);
        let probe = &found[0];
        assert_eq!(probe.name, "alloc");
        assert!(parse(&two, Some(0x2000), "other").is_empty());
        assert_eq!((probe.address, probe.semaphore), (0x1130, 0x4010));
        let arguments = probe.arguments.as_ref().unwrap();
        let kinds: Vec<u32> = arguments.iter().map(|a| a.kind()).collect();
        assert_eq!(
            kinds,
            [operand::REGISTER, operand::MEMORY, operand::CONSTANT]
        );
        assert_eq!(arguments[0].register(), 7);
        assert_eq!((arguments[1].register(), arguments[1].offset()), (5, -16));
        assert_eq!(arguments[2].offset(), 64);
        assert_eq!(found[1].arguments, None);
    }

    #[test]
    fn a_file_moved_after_its_link() {
        let found = parse(&bytes("4@%eax"), Some(0x3000), "otel_memory");
        assert_eq!(found[0].address, 0x2130);
        assert_eq!(found[0].semaphore, 0x5010);
        assert!(!found[0].arguments.as_ref().unwrap()[0].is_wide());
    }

    #[test]
    fn garbage_is_no_note() {
        let all = bytes("8@%rdi");
        for len in 0..all.len() {
            parse(&all[..len], None, "otel_memory");
        }
        parse(&[0xff; 64], None, "otel_memory");
    }
}
