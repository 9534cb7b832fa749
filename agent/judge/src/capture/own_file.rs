//! Files of heaptide's own that are kept: written beside the old one and renamed over it, for the owner only, and never
//! through a link that somebody else may have put there.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

// `O_NONBLOCK` and `O_NOFOLLOW` of x86-64 (include/uapi/asm-generic/fcntl.h).
const NONBLOCK: i32 = 0o4000;
const NOFOLLOW: i32 = 0o40_0000;

/// A file that has no name yet but a temporary one. Dropped before it is published, it is removed.
#[derive(Debug)]
pub struct OwnFile {
    /// What is written goes here.
    pub file: File,
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl OwnFile {
    /// A new, empty file in the folder of `path`, where there may be a regular file, nothing, or a device, which is
    /// written directly.
    pub fn create(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                return Err(io::Error::other(
                    "it is a symbolic link: name the file itself",
                ));
            }
            // Nothing is put in the place of a device.
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
            // Refuses what exists, links included.
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

    /// Puts it in the place of the old one. It can be written on.
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
            // Nobody would look for it.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The content of a regular file of at most `most` bytes. A link in its place is not followed, and a FIFO there does not
/// block.
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
