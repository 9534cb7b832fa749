//! Files that heaptide keeps. A new version is written beside the old file and renamed over it. Only the owner may
//! read it. Symbolic links are not followed, because another user may have put them there.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

// `O_NONBLOCK` and `O_NOFOLLOW` of x86-64 (include/uapi/asm-generic/fcntl.h).
const NONBLOCK: i32 = 0o4000;
const NOFOLLOW: i32 = 0o40_0000;

/// A file with a temporary name. It is removed if it is dropped before it is published.
#[derive(Debug)]
pub struct OwnFile {
    /// The open file.
    pub file: File,
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl OwnFile {
    /// A new, empty file in the folder of `path`. `path` itself may be a regular file, a device, or missing. A device
    /// is written directly.
    pub fn create(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                return Err(io::Error::other(
                    "it is a symbolic link: name the file itself",
                ));
            }
            // A device is not replaced.
            Ok(found) if found.file_type().is_char_device() => {
                let mut options = OpenOptions::new();
                let opened = options.write(true).custom_flags(NOFOLLOW).open(path);
                return Ok(Self {
                    file: opened?,
                    path: path.to_owned(),
                    temporary: None,
                });
            }
            Ok(found) if !found.is_file() => {
                return Err(io::Error::other("it is not a regular file: name another"));
            }
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let name = name.to_string_lossy();
        for _ in 0..16 {
            let random = RandomState::new().build_hasher().finish();
            let temporary = path.with_file_name(format!(".{name}.{random:016x}"));
            // Fails for an existing file or link.
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary);
            match created {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    return Ok(Self {
                        file: created?,
                        path: path.to_owned(),
                        temporary: Some(temporary),
                    });
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Replaces the old file. More can be written afterwards.
    pub fn publish(&mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // An error is ignored: nobody reads a temporary file.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The content of a regular file of at most `most` bytes. A symbolic link is not followed, and a FIFO does not block
/// the call.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK | NOFOLLOW)
        .open(path)?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    opened.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(content)
}
