//! Truncated numbers and false tables.

use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn numbers_end_with_the_table() {
    let of = |bytes: &[u8], at: &mut usize| varint(|at| bytes.get(at).copied(), at);
    let mut at = 0;
    assert_eq!(of(&[0x85, 0x01], &mut at), Some(133));
    assert_eq!(at, 2);
    assert_eq!(of(&[0x85], &mut 0), None);
    assert_eq!(of(&[0xff; 9], &mut 0), None);
    assert_eq!(u32_at(&[1, 0, 0], 0), None);
}

/// A program with a function table whose header is `words`, followed by zeros.
fn table_of(words: &[u64]) -> Option<Table> {
    use std::io::{Seek, SeekFrom, Write};
    const HOLE: u64 = 64 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let mark = [0x5a_u8; 4096];
    std::fs::write(folder.path().join("table"), mark).unwrap();
    std::fs::write(
        folder.path().join("main.c"),
        "int main(void) { return 0; }\n",
    )
    .unwrap();
    for (program, arguments) in [
        ("gcc", ["main.c", "-o", "program"].as_slice()),
        ("objcopy", &["--add-section", ".gopclntab=table", "program"]),
    ] {
        let mut command = Command::new(program);
        let status = command.args(arguments).current_dir(folder.path()).status();
        assert!(status.expect("gcc and binutils").success());
    }
    let offset = Elf::open(&path)
        .unwrap()
        .section(".gopclntab")
        .unwrap()
        .offset;
    let mut bytes = std::fs::read(&path).unwrap();
    let headers = u64_at(&bytes, 40).unwrap() as usize;
    let header = (headers..bytes.len())
        .step_by(64)
        .find(|at| u64_at(&bytes, at + 24) == Some(offset))
        .unwrap();
    let end = bytes.len() as u64;
    bytes[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&HOLE.to_le_bytes());
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(SeekFrom::Start(end)).unwrap();
    file.write_all(&[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8])
        .unwrap();
    for word in words {
        file.write_all(&word.to_le_bytes()).unwrap();
    }
    file.set_len(end + HOLE).unwrap();
    let elf = Arc::new(Elf::open(&path).unwrap());
    Table::open(&elf, std::process::id(), 0)
}

#[test]
fn tables_that_lie() {
    let start = Instant::now();
    // more functions than any program has
    assert!(table_of(&[1 << 34, 1, 0, 72, 72, 72, 72, 72]).is_none());
    assert!(table_of(&[u64::MAX; 8]).is_none());
    for at in [72, 1 << 40, u64::MAX, u64::MAX - 7] {
        let most = caps::GO_FUNCTIONS as u64;
        let Some(table) = table_of(&[most, 1, 0, at, at, at, at, 72]) else {
            continue;
        };
        let mut seen = 0;
        table.each(|_, _| seen += 1);
        assert!(seen <= caps::GO_FUNCTIONS);
        for address in [0, 1, 1 << 20, u64::MAX] {
            table.places(address);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}
