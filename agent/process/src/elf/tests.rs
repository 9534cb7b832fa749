//! This executable, and files with false contents.

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use std::path::{Path, PathBuf};

use super::class::class;
use super::*;

#[test]
fn classes() {
    let mut head = [0; 20];
    head[..4].copy_from_slice(b"\x7fELF");
    head[4] = 1;
    head[18] = 3;
    assert_eq!(class(&head), Some(Class::ThirtyTwoBit));
    head[4] = 2;
    head[18] = 62;
    assert_eq!(class(&head), Some(Class::X86_64));
    assert_eq!(class(b"#!/bin/sh and so on.."), None);
}

fn own() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn names(elf: &Elf) -> usize {
    let mut names = 0;
    elf.functions(|_| names += 1);
    names
}

#[test]
fn own_executable() {
    let elf = Elf::open(&own()).unwrap();
    assert!(names(&elf) > 100);
    let text = elf.section(".text").unwrap();
    assert_eq!(elf.file_offset(text.address), Some(text.offset));
    assert_eq!(elf.at(text.address, 16).unwrap().len(), 16);
    assert!(Elf::open(Path::new("/proc/self/maps")).is_err());
    assert_eq!(elf.limitations(), Vec::<String>::new());
}

/// Contents read in pieces equal the file.
#[test]
fn pieces_are_the_file() {
    let elf = Elf::open(&own()).unwrap();
    let file = std::fs::read(own()).unwrap();
    let section = elf.section(".eh_frame").unwrap();
    let (start, size) = (section.offset as usize, section.size as usize);
    let expected = &file[start..start + size];
    assert_eq!(elf.section_bytes(section).unwrap(), expected);
    let mut bytes = vec![0; 1000];
    for at in (0..size - 1000).step_by(7777) {
        assert!(elf.read_at((start + at) as u64, &mut bytes));
        assert_eq!(bytes, expected[at..at + 1000]);
    }
    let mut joined = Vec::new();
    elf.search(section, 0, |bytes| {
        joined.extend_from_slice(bytes);
        false
    });
    assert_eq!(joined, expected);
    assert!(!elf.read_at(file.len() as u64 - 4, &mut [0; 8]));
    assert!(!elf.read_at(u64::MAX, &mut [0; 8]));
}

/// A copy of this executable with one section header changed: (offset, size, entry size).
fn changed(name: &str, change: impl Fn(&mut [u8])) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = std::fs::read(own()).unwrap();
    let elf = Elf::open(&own()).unwrap();
    let number = elf.section(name).unwrap().number as usize;
    let at = headers::u64_at(&bytes, 40).unwrap() as usize + number * 64;
    change(&mut bytes[at..at + 64]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn put(header: &mut [u8], at: usize, value: u64) {
    header[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_symbol_table_in_a_hole() {
    const HOLE: u64 = 256 << 30;
    let end = std::fs::metadata(own()).unwrap().len();
    let (_folder, path) = changed(".symtab", |header| {
        put(header, 24, end);
        put(header, 32, HOLE);
    });
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(end + HOLE)).unwrap();
    file.write_all(&[0]).unwrap();
    let start = Instant::now();
    let elf = Elf::open(&path).unwrap();
    for _ in 0..5 {
        names(&elf);
        elf.data_symbol("nothing");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let said = elf.limitations().join("\n");
    assert!(said.contains("symbol table has more than"), "{said}");
}

#[test]
fn sizes_and_places_that_lie() {
    for (offset, size) in [
        (u64::MAX, 24),
        (0, u64::MAX),
        (u64::MAX - 12, 24),
        (1 << 62, 1 << 62),
        (0, 1 << 40),
    ] {
        for name in [".symtab", ".strtab", ".dynsym", ".dynstr", ".eh_frame"] {
            let (_folder, path) = changed(name, |header| {
                put(header, 24, offset);
                put(header, 32, size);
            });
            let elf = Elf::open(&path).unwrap();
            names(&elf);
            elf.imports();
            elf.data_symbol("_r_debug");
            let section = elf.section(name).unwrap();
            assert_eq!(elf.section_bytes(section), None);
            assert!(!elf.search(section, 16, |_| false));
        }
    }
    // an invalid entry size
    let (_folder, path) = changed(".symtab", |header| put(header, 56, 0));
    assert!(names(&Elf::open(&path).unwrap()) > 100);
}

#[test]
fn a_file_that_is_cut_anywhere() {
    let bytes = std::fs::read(own()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for len in [
        0,
        3,
        40,
        63,
        64,
        100,
        4096,
        bytes.len() / 2,
        bytes.len() - 1,
    ] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        if let Ok(elf) = Elf::open(&path) {
            names(&elf);
        }
    }
    // headers with random values
    let mut head = bytes[..4096].to_vec();
    for at in 16..64 {
        let before = head[at];
        for value in [0, 1, 0x7f, 0xff] {
            head[at] = value;
            std::fs::write(&path, &head).unwrap();
            if let Ok(elf) = Elf::open(&path) {
                names(&elf);
            }
        }
        head[at] = before;
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shrinks");
    std::fs::copy(own(), &path).unwrap();
    let elf = Elf::open(&path).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(names(&elf), 0);
    let text = elf.section(".text").unwrap();
    assert_eq!(elf.at(text.address, 16), None);
}
