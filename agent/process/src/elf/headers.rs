//! The headers of an ELF file: its segments and sections.

use super::sections::{Section, Segment};
use crate::files::{ForeignFile, caps};

/// Bytes of the file's header.
pub(super) const HEAD: usize = 64;
/// Bytes of a program header and of a section header.
const SEGMENT: usize = 56;
const SECTION: usize = 64;

const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const SHT_NULL: u32 = 0;
const SHT_NOBITS: u32 = 8;
/// Escape value: the index of the name section is in the first section header.
const SHN_XINDEX: u16 = 0xffff;

type Damage = &'static str;

/// Reads both tables.
pub(super) fn read(
    file: &ForeignFile,
    head: &[u8; HEAD],
) -> Result<(Vec<Segment>, Vec<Section>), Damage> {
    const SHORT: Damage = "the header is too short";
    let half = |at| u16_at(head, at).ok_or(SHORT);
    let (segments_at, sections_at) = (
        u64_at(head, 32).ok_or(SHORT)?,
        u64_at(head, 40).ok_or(SHORT)?,
    );
    let segments = u64::from(half(56)?);
    if segments > 0 && usize::from(half(54)?) != SEGMENT {
        return Err("its program headers have an unknown size");
    }
    let segments = table(file, segments_at, segments, SEGMENT, caps::SEGMENTS)?;
    let segments = segments.chunks_exact(SEGMENT).filter_map(segment).collect();
    if sections_at == 0 {
        return Ok((segments, Vec::new()));
    }
    if usize::from(half(58)?) != SECTION {
        return Err("its section headers have an unknown size");
    }
    let (mut count, mut names) = (u64::from(half(60)?), u32::from(half(62)?));
    if count == 0 || half(62)? == SHN_XINDEX {
        let first = table(file, sections_at, 1, SECTION, 1)?;
        if count == 0 {
            count = u64_at(&first, 32).ok_or(SHORT)?;
        }
        if half(62)? == SHN_XINDEX {
            names = u32_at(&first, 40).ok_or(SHORT)?;
        }
    }
    let sections = table(file, sections_at, count, SECTION, caps::SECTIONS)?;
    let names = sections
        .chunks_exact(SECTION)
        .nth(names as usize)
        .map(|header| section_names(file, header))
        .transpose()?
        .unwrap_or_default();
    let sections = sections
        .chunks_exact(SECTION)
        .enumerate()
        .filter_map(|(number, header)| section(number as u32, header, &names))
        .collect();
    Ok((segments, sections))
}

/// The bytes of a table of headers.
fn table(
    file: &ForeignFile,
    offset: u64,
    count: u64,
    size: usize,
    most: u64,
) -> Result<Vec<u8>, Damage> {
    if count > most {
        return Err("it has too many headers");
    }
    bytes(file, offset, count * size as u64)
}

fn bytes(file: &ForeignFile, offset: u64, size: u64) -> Result<Vec<u8>, Damage> {
    const OUTSIDE: Damage = "its headers are outside of the file";
    if offset.checked_add(size).ok_or(OUTSIDE)? > file.len() {
        return Err(OUTSIDE);
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| OUTSIDE)?];
    file.read_at(offset, &mut bytes).map_err(|_| OUTSIDE)?;
    Ok(bytes)
}

fn segment(header: &[u8]) -> Option<Segment> {
    if u32_at(header, 0)? != PT_LOAD {
        return None;
    }
    Some(Segment {
        offset: u64_at(header, 8)?,
        address: u64_at(header, 16)?,
        size: u64_at(header, 32)?,
        executable: u32_at(header, 4)? & PF_X != 0,
    })
}

fn section_names(file: &ForeignFile, header: &[u8]) -> Result<Vec<u8>, Damage> {
    const DAMAGED: Damage = "its section names are damaged";
    let size = u64_at(header, 32).ok_or(DAMAGED)?;
    if size > caps::SECTION_NAMES {
        return Err(DAMAGED);
    }
    bytes(file, u64_at(header, 24).ok_or(DAMAGED)?, size)
}

/// A section that has contents.
fn section(number: u32, header: &[u8], names: &[u8]) -> Option<Section> {
    let kind = u32_at(header, 4)?;
    if matches!(kind, SHT_NULL | SHT_NOBITS) {
        return None;
    }
    let name = names.get(u32_at(header, 0)? as usize..)?;
    let name = name.get(..name.iter().position(|byte| *byte == 0)?)?;
    Some(Section {
        name: std::str::from_utf8(name).ok()?.to_string(),
        address: u64_at(header, 16)?,
        offset: u64_at(header, 24)?,
        size: u64_at(header, 32)?,
        kind,
        link: u32_at(header, 40)?,
        number,
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
