//! Non-regular files, files that change, and links out of the root.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;

fn own_root(path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap();
    Path::new("/proc")
        .join(std::process::id().to_string())
        .join("root")
        .join(below)
}

#[test]
fn a_regular_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"0123456789").unwrap();
    for path in [path.clone(), own_root(&path)] {
        let file = ForeignFile::open(&path).unwrap();
        let mut bytes = [0; 4];
        file.read_at(3, &mut bytes).unwrap();
        assert_eq!((&bytes, file.len()), (b"3456", 10));
        assert_eq!(Some(file.identity()), identity(&path));
        assert!(is_file(&path));
        // beyond the end
        assert!(matches!(
            file.read_at(8, &mut bytes),
            Err(FileError::Read { .. })
        ));
        assert!(file.read_at(u64::MAX, &mut bytes).is_err());
    }
}

#[test]
fn a_file_that_was_cut_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let file = ForeignFile::open(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert!(file.read_at(1 << 19, &mut [0; 64]).is_err());
}

/// Opening a FIFO would wait for a writer; opening a device runs its driver.
#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let link = folder.path().join("link");
    symlink("/dev/zero", &link).unwrap();
    let start = Instant::now();
    for path in [
        fifo.as_path(),
        &own_root(&fifo),
        &link,
        Path::new("/dev/tty"),
        folder.path(),
    ] {
        assert!(!is_file(path));
        assert!(
            matches!(ForeignFile::open(path), Err(FileError::NotRegular { .. })),
            "{path:?}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Absolute links stay in the process's root, and its `/proc` does not lead elsewhere.
#[test]
fn links_do_not_lead_out_of_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hostname"), b"inside").unwrap();
    symlink("/etc/hostname", root.join("absolute")).unwrap();
    symlink("../../../etc/hostname", root.join("up")).unwrap();
    symlink("/proc/self/exe", root.join("magic")).unwrap();
    std::fs::create_dir_all(root.join("bin")).unwrap();
    build_static(&root.join("bin/sleep"));
    let mut chrooted = std::process::Command::new("chroot");
    let chrooted = chrooted.arg(&root).arg("/bin/sleep").spawn();
    let mut child = chrooted.unwrap();
    let exe = Path::new("/proc").join(child.id().to_string()).join("exe");
    let start = Instant::now();
    while identity(&exe) != identity(&root.join("bin/sleep")) {
        assert!(start.elapsed() < Duration::from_secs(10), "needs root");
        std::thread::sleep(Duration::from_millis(2));
    }
    let inside = Path::new("/proc").join(child.id().to_string()).join("root");
    for link in ["absolute", "up"] {
        let file = ForeignFile::open(&inside.join(link)).unwrap();
        let mut bytes = [0; 6];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"inside", "{link}");
    }
    assert!(ForeignFile::open(&inside.join("magic")).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn build_static(to: &Path) {
    let source = to.with_extension("c");
    std::fs::write(
        &source,
        "#include <unistd.h>\nint main(void) { sleep(60); }\n",
    )
    .unwrap();
    let built = std::process::Command::new("gcc")
        .args(["-static", "-o"])
        .arg(to)
        .arg(&source)
        .status();
    assert!(built.expect("a C compiler is needed").success());
}
