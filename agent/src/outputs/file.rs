//! Writes results: files atomically, standard output without a panic.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::OutputError;

/// Writes `content` to `path` atomically. A temporary file in the same folder is renamed over it, so a
/// reader sees the old or the new content, and a failure leaves no file. An existing path that is not a
/// regular file (`/dev/stdout`, a FIFO) is written directly.
pub fn write(what: &'static str, path: &Path, content: &[u8]) -> Result<(), OutputError> {
    write_whole(path, content).map_err(|source| OutputError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Writes `content` to standard output. A closed pipe (`| head`) is not an error.
pub fn print(what: &'static str, content: &[u8]) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(content).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(OutputError::Stdout { what, source })
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error. Unlike `eprintln!` it does not panic if that is closed (`| head`).
pub fn tell(line: &str) {
    // There is no other place for it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// To `path`, or to standard output without one.
pub fn write_or_print(
    what: &'static str,
    path: Option<&Path>,
    content: &[u8],
) -> Result<(), OutputError> {
    match path {
        Some(path) => write(what, path, content),
        None => print(what, content),
    }
}

/// Whether `path` can be written to, as far as this can be told before there is content: for users who would wait for the
/// result in vain.
pub fn check(what: &'static str, path: &Path) -> Result<(), OutputError> {
    let can = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => Ok(()),
        _ => place(path).and_then(|path| {
            let (temporary, _) = create_beside(&path)?;
            fs::remove_file(temporary)
        }),
    };
    can.map_err(|source| OutputError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            return write_special(path, content);
        }
        _ => {}
    }
    let path = place(path)?;
    let (temporary, mut file) = create_beside(&path)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // The first error is reported.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The file to replace. A symbolic link is followed and its target replaced. A link of another user is replaced itself.
fn place(path: &Path) -> io::Result<PathBuf> {
    if is_foreign_link(path) {
        return Ok(path.to_owned());
    }
    fs::canonicalize(path).or_else(|_| dangling(path))
}

/// Writes to a device or FIFO. A FIFO without a reader is an error: opening it would wait for one, perhaps for ever.
fn write_special(path: &Path, content: &[u8]) -> io::Result<()> {
    let nonblocking = libc::O_NONBLOCK;
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK)?;
    file.write_all(content)
}

/// The file that a symbolic link names and that does not exist yet. `path` itself if it is no link.
fn dangling(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(named) = fs::read_link(&path) else {
            return Ok(path);
        };
        if is_foreign_link(&path) {
            return Ok(path);
        }
        path = path.parent().unwrap_or(Path::new("")).join(named);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Whether `path` is a symbolic link of another user.
fn is_foreign_link(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink() && found.uid() != own)
}

/// A new file in the folder of `path`. `create_new` refuses an existing file or link.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::IsADirectory)?
        .to_string_lossy();
    for attempt in 0..100 {
        let temporary = path.with_file_name(format!(".{name}.{}-{attempt}", std::process::id()));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (temporary, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write("the report", &path, b"old").unwrap();
        write("the report", &path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write("the report", &link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_link_to_a_file_that_is_missing_creates_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        write("the report", &link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        write("the report", &folder.path().join("loop"), b"x").unwrap_err();
    }

    #[test]
    fn a_fifo_without_a_reader_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let error = write("the report", &path, b"x").unwrap_err().to_string();
        assert!(error.contains("cannot write the report"), "{error}");
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        while write("the report", &path, b"new").is_err() {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap(), b"new");
    }

    #[test]
    fn a_path_is_checked_before_there_is_content() {
        let folder = tempfile::tempdir().unwrap();
        check("the report", &folder.path().join("new")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        check("the report", Path::new("/dev/full")).unwrap();
        for bad in [folder.path(), &folder.path().join("missing/new")] {
            check("the report", bad).unwrap_err();
        }
    }

    #[test]
    fn a_full_disk_is_a_clear_error() {
        let error = write("the report", Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write the report to /dev/full: No space left on device (os error 28); there is \
             no space left: free some, or use another disk"
        );
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("report.json");
        let error = write("the report", &path, b"x").unwrap_err().to_string();
        assert!(error.contains("the folder does not exist"), "{error}");
        let error = write("the report", folder.path(), b"x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("name a file, not a folder"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
