//! Files with false debug information, looked up in a thread of the test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::Elf;

const SOURCE: &str = "#include <stdlib.h>\n\
    void *keep(int size) {\n    return malloc(size);\n}\n\
    int main(void) { return keep(7) == 0; }\n";

struct Program {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn compiled(flags: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("leak.c");
    std::fs::write(&source, SOURCE).unwrap();
    let path = folder.path().join("leak");
    let built = Command::new("gcc")
        .args(["-g", "-O0"])
        .args(flags)
        .arg("-o")
        .arg(&path)
        .arg(&source)
        .status();
    assert!(built.expect("a C compiler is needed").success());
    Program { folder, path }
}

/// Looks up the first instruction of `keep`.
fn looked(path: &Path) -> (Looked, Option<String>) {
    let elf = Arc::new(Elf::open(path).unwrap());
    let mut address = None;
    elf.functions(|symbol| {
        if symbol.name == "keep" {
            address = Some(symbol.address);
        }
    });
    let files = Files {
        elf,
        debug: None,
        shared: None,
    };
    look(&files, address.unwrap())
}

fn has_line((looked, said): &(Looked, Option<String>)) -> bool {
    assert_eq!(looked.symbol.as_deref(), Some("keep"), "{said:?}");
    let place = looked.places.first();
    let line = place.is_some_and(|place| place.line == Some(2));
    assert_eq!(line, said.is_none(), "{looked:?} {said:?}");
    line
}

#[test]
fn names_and_lines() {
    for flags in [
        &["-gz=none"][..],
        &["-gz=zlib"],
        &["-gdwarf-4"],
        &["-static"],
    ] {
        let found = looked(&compiled(flags).path);
        assert!(has_line(&found), "{flags:?} {found:?}");
        assert!(found.0.places[0].file.as_ref().unwrap().ends_with("leak.c"));
    }
}

/// Replaces a section by other bytes after the end of the file.
fn replaced(program: &Program, section: &str, contents: &[u8]) {
    let mut bytes = std::fs::read(&program.path).unwrap();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let headers = word(&bytes, 40) as usize;
    let offset = Elf::open(&program.path)
        .unwrap()
        .section(section)
        .unwrap()
        .offset;
    let header = (headers..bytes.len())
        .step_by(64)
        .find(|at| word(&bytes, at + 24) == offset)
        .unwrap();
    let end = bytes.len() as u64;
    bytes[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&(contents.len() as u64).to_le_bytes());
    bytes.extend_from_slice(contents);
    std::fs::write(&program.path, bytes).unwrap();
}

/// A compressed section: claimed size, and number of zeros in it.
fn compressed(claim: u64, zeros: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    bytes.extend_from_slice(&claim.to_le_bytes());
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    let mut zlib = flate2::write::ZlibEncoder::new(bytes, flate2::Compression::fast());
    zlib.write_all(&vec![0; zeros]).unwrap();
    zlib.finish().unwrap()
}

#[test]
fn what_compressed_sections_claim() {
    const MUCH: usize = 64 << 20;
    for (claim, zeros) in [
        (1 << 62, 16),
        (u64::MAX, 16),
        (MUCH as u64, MUCH),
        (16, MUCH),
        (1024, 16),
    ] {
        let program = compiled(&["-gz=zlib"]);
        replaced(&program, ".debug_info", &compressed(claim, zeros));
        let found = looked(&program.path);
        assert!(!has_line(&found), "{claim}");
        let said = found.1.unwrap();
        assert!(said.contains("without file and line"), "{said}");
    }
}

#[test]
fn debug_information_of_any_bytes() {
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for section in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"] {
        for len in [0, 1, 11, 4096] {
            let program = compiled(&["-gz=none"]);
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    noise as u8
                })
                .collect();
            replaced(&program, section, &bytes);
            let (looked, _) = looked(&program.path);
            assert_eq!(looked.symbol.as_deref(), Some("keep"));
        }
    }
}

/// `.gnu_debuglink` names a file beside the program.
#[test]
fn debug_links() {
    use std::os::unix::fs::symlink;
    let program = compiled(&["-Wl,--build-id=none"]);
    let folder = program.folder.path();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let status = command.args(arguments).current_dir(folder).status();
        assert!(status.expect("binutils are needed").success());
    };
    run("objcopy", &["--only-keep-debug", "leak", "x.debug"]);
    run(
        "objcopy",
        &["--strip-debug", "--add-gnu-debuglink=x.debug", "leak"],
    );
    let found = || {
        let start = Instant::now();
        let module = crate::Module {
            path: program.path.to_str().unwrap().to_string(),
            name: "leak".to_string(),
            file: program.path.clone(),
            inode: (0, 0),
            bias: 0,
            start: 0,
            end: 0,
            main: true,
            deleted: false,
            elf: Arc::new(Elf::open(&program.path).unwrap()),
        };
        let files = super::super::split::files(&module, std::process::id(), &mut Vec::new());
        assert!(start.elapsed() < Duration::from_secs(5));
        files.debug.is_some()
    };
    assert!(found());
    let debug = folder.join("x.debug");
    let kept = std::fs::read(&debug).unwrap();
    let changed = |bytes: &[u8]| std::fs::write(&debug, bytes).unwrap();
    // contents that do not match the link's checksum
    let mut other = kept.clone();
    *other.last_mut().unwrap() ^= 1;
    changed(&other);
    assert!(!found());
    changed(&kept);
    assert!(found());
    std::fs::remove_file(&debug).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &debug, fifo, mode, 0).unwrap();
    assert!(!found());
    std::fs::remove_file(&debug).unwrap();
    symlink("/dev/zero", &debug).unwrap();
    assert!(!found());
    std::fs::remove_file(&debug).unwrap();
    // a sparse terabyte
    let hole = std::fs::File::create(&debug).unwrap();
    hole.set_len(1 << 40).unwrap();
    assert!(!found());
}
