//! The one reader of foreign files. A path is looked up without opening (`O_PATH`); only a regular file
//! is then opened, once, through `/proc/self/fd`: opening a device runs its driver, and opening a FIFO
//! waits for a writer. Files are read into bounded buffers and never mapped: a mapped file that shrinks
//! would end the agent by SIGBUS. What may block for ever runs where it can be given up.

mod abandon;
pub mod budget;
pub mod caps;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use abandon::within;
pub use budget::Budget;

/// Why a foreign file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not permitted.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A device, a FIFO, a folder: those are not opened.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Its file system does not answer.
    #[error("the file system of {path} does not answer in time")]
    GivenUp {
        /// The file.
        path: PathBuf,
    },
    /// It is shorter than it was, or reading fails.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Which file it is: device (`major << 32 | minor`, as in [`crate::Mapping`]) and inode.
pub type Identity = (u64, u64);

/// A regular file of somebody else, open for reading.
#[derive(Debug)]
pub struct ForeignFile {
    file: Arc<File>,
    path: PathBuf,
    len: u64,
    identity: Identity,
    /// Its file system may make a reader wait for ever.
    may_hang: bool,
    /// It did once: it is not read again.
    hung: AtomicBool,
}

impl ForeignFile {
    /// Opens a path of this host; below `/proc/PID/root` links are followed as the process would.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let (place, stat) = look_up(path)?;
        if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::RegularFile {
            return Err(FileError::NotRegular {
                path: path.to_path_buf(),
            });
        }
        // A file of a disk does not wait for anybody; all others have no device of their own.
        let may_hang = stat.stx_dev_major == 0;
        let open = move || {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let link = format!("/proc/self/fd/{}", place.as_raw_fd());
            rustix::fs::open(link, flags, Mode::empty())
        };
        let opened = if may_hang {
            within(open).map_err(|_| given_up(path))?
        } else {
            open()
        };
        let file = File::from(opened.map_err(|errno| not_opened(path, errno))?);
        Ok(Self {
            file: Arc::new(file),
            path: path.to_path_buf(),
            len: stat.stx_size,
            identity: identity_in(&stat),
            may_hang,
            hung: AtomicBool::new(false),
        })
    }

    /// Bytes that it had when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// It had none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Fills all of `into` from an offset on.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        let read = |source| FileError::Read {
            path: self.path.clone(),
            source,
        };
        if !self.may_hang {
            return self.file.read_exact_at(into, offset).map_err(read);
        }
        if self.hung.load(Ordering::Relaxed) {
            return Err(given_up(&self.path));
        }
        let (file, len) = (self.file.clone(), into.len());
        let answer = within(move || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        let Ok(bytes) = answer else {
            self.hung.store(true, Ordering::Relaxed);
            return Err(given_up(&self.path));
        };
        into.copy_from_slice(&bytes.map_err(read)?);
        Ok(())
    }
}

impl AsFd for ForeignFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Which file a path leads to, without opening it.
pub fn identity(path: &Path) -> Option<Identity> {
    look_up(path).ok().map(|(_, stat)| identity_in(&stat))
}

/// A regular file is there; it is not opened.
pub fn is_file(path: &Path) -> bool {
    look_up(path).is_ok_and(|(_, stat)| {
        FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile
    })
}

fn identity_in(stat: &Statx) -> Identity {
    let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
    (device, stat.stx_ino)
}

fn given_up(path: &Path) -> FileError {
    FileError::GivenUp {
        path: path.to_path_buf(),
    }
}

fn not_opened(path: &Path, errno: Errno) -> FileError {
    FileError::Open {
        path: path.to_path_buf(),
        source: errno.into(),
    }
}

/// Finds a file without opening it. What the kernel knows already does not block; all else is asked for
/// where it can be given up.
fn look_up(path: &Path) -> Result<(OwnedFd, Statx), FileError> {
    match find(path, true) {
        Ok(found) => return Ok(found),
        // the kernel would have to ask the file system, or does not know how to say so
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS) => {}
        Err(errno) => return Err(not_opened(path, errno)),
    }
    let asked = path.to_path_buf();
    within(move || find(&asked, false))
        .map_err(|_| given_up(path))?
        .map_err(|errno| not_opened(path, errno))
}

fn find(path: &Path, cached: bool) -> Result<(OwnedFd, Statx), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::empty();
    if cached {
        resolve |= ResolveFlags::CACHED;
    }
    let place = match below_root(path) {
        Some((root, rest)) => {
            let root = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
            resolve |= ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(root, rest, flags, Mode::empty(), resolve)?
        }
        None => rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?,
    };
    // What is known of it is enough, and asking a server could block.
    let how = if cached {
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC
    } else {
        AtFlags::EMPTY_PATH
    };
    let stat = rustix::fs::statx(&place, "", how, StatxFlags::BASIC_STATS)?;
    Ok((place, stat))
}

/// `/proc/PID/root` and what lies below it.
fn below_root(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut parts = path.strip_prefix("/proc").ok()?.components();
    let pid = parts.next()?;
    let root = parts.next()?;
    if root.as_os_str() != "root" {
        return None;
    }
    let rest = parts.as_path();
    (!rest.as_os_str().is_empty())
        .then(|| (Path::new("/proc").join(pid).join(root), rest.to_path_buf()))
}

#[cfg(test)]
mod tests;
