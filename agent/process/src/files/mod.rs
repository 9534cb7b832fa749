//! The only reader of foreign files. A path is looked up without opening (`O_PATH`). Only a regular
//! file is then opened, once, through `/proc/self/fd`: opening a device runs its driver, and opening a
//! FIFO waits for a writer. Files are read into bounded buffers and never mapped, because a mapped file
//! that shrinks would end the agent by SIGBUS. Accesses that may block forever run in a thread that can
//! be abandoned.

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

use crate::ending;

/// Why a foreign file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It does not exist or access is denied.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A device, FIFO or folder, which is not opened.
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
    /// It became shorter, or reading failed.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Identity of a file: device (`major << 32 | minor`, as in [`crate::Mapping`]) and inode.
pub type Identity = (u64, u64);

/// A foreign regular file, open for reading.
#[derive(Debug)]
pub struct ForeignFile {
    file: Arc<File>,
    path: PathBuf,
    len: u64,
    identity: Identity,
    /// Reads may block forever.
    may_hang: bool,
    /// A read hung: it is not read again.
    hung: AtomicBool,
}

impl ForeignFile {
    /// Opens a path of this host. Below `/proc/PID/root` links are resolved as in that process.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let (place, stat) = look_up(path)?;
        if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::RegularFile {
            return Err(FileError::NotRegular {
                path: path.to_path_buf(),
            });
        }
        // File systems on disks do not block; all others have no device major number.
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

    /// Size when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Size 0 when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Fills `into` from an offset.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        let read = |source| FileError::Read {
            path: self.path.clone(),
            source,
        };
        if ending::is_over() {
            return Err(given_up(&self.path));
        }
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

/// Identity of the file at a path, without opening it.
pub fn identity(path: &Path) -> Option<Identity> {
    look_up(path).ok().map(|(_, stat)| identity_in(&stat))
}

/// Whether there is a regular file; it is not opened.
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

/// Finds a file without opening it. Lookups that the kernel can answer from its cache do not block;
/// others run in a thread that can be abandoned.
fn look_up(path: &Path) -> Result<(OwnedFd, Statx), FileError> {
    match find(path, true) {
        Ok(found) => return Ok(found),
        // the kernel would have to ask the file system, or does not support this flag
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
    // Cached attributes are sufficient, and asking a server could block.
    let how = if cached {
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC
    } else {
        AtFlags::EMPTY_PATH
    };
    let stat = rustix::fs::statx(&place, "", how, StatxFlags::BASIC_STATS)?;
    Ok((place, stat))
}

/// `/proc/PID/root` and the path below it.
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
