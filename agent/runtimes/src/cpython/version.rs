//! The exact version of a `CPython`: from `Py_Version`, the debug offsets, or the version string.

use std::fmt;

use regex::bytes::Regex;

use super::offsets::DebugOffsets;
use heaptide_process::Module;

/// A version of `CPython`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// Major version, 3.
    pub(crate) major: u8,
    /// 13 for 3.13.0.
    pub(crate) minor: u8,
    /// 0 for 3.13.0.
    pub(crate) micro: u8,
    /// It is a release: alpha, beta and candidate versions may have other layouts.
    pub(crate) last: bool,
}

impl Version {
    /// Parses `PY_VERSION_HEX` (`0x030d00f0` is 3.13.0).
    pub(crate) fn from_hex(hex: u32) -> Option<Self> {
        let [major, minor, micro, level] = hex.to_be_bytes();
        (major == 3 && minor < 100).then_some(Self {
            major,
            minor,
            micro,
            last: level >> 4 == 0xf,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            part[..digits].parse::<u8>().ok()
        });
        let major = numbers.next()??;
        Some(Self {
            major,
            minor: numbers.next()??,
            micro: numbers.next()??,
            last: !text.contains(['a', 'b', 'r']),
        })
        .filter(|v| v.major == 3)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        if self.last {
            Ok(())
        } else {
            f.write_str("-pre")
        }
    }
}

/// The description of an interpreter in its file.
pub(super) struct Build {
    pub(super) version: Option<Version>,
    pub(super) free_threaded: bool,
    pub(super) offsets: Option<DebugOffsets>,
}

impl Build {
    /// Reads the file; `runtime` is the address of `_PyRuntime` in it.
    pub(super) fn of(module: &Module, runtime: u64) -> Self {
        let elf = &module.elf;
        // `_PyRuntime` is statically initialised, so the file has its initial contents. It is followed by other
        // data, so this reads the maximum of all versions.
        let offsets = elf
            .at(runtime, DebugOffsets::MOST)
            .and_then(|bytes| DebugOffsets::parse(&bytes));
        let exported = || {
            let bytes = elf.at(elf.data_symbol("Py_Version")?, 4)?;
            Version::from_hex(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let version = exported()
            .or_else(|| {
                offsets
                    .as_ref()
                    .and_then(|o| Version::from_hex(o.version()))
            })
            .or_else(|| in_strings(module));
        Self {
            version,
            free_threaded: offsets.as_ref().is_some_and(DebugOffsets::free_threaded),
            offsets,
        }
    }
}

/// `PY_VERSION` in the read-only strings, if it is unique and consistent with the file name.
fn in_strings(module: &Module) -> Option<Version> {
    let bytes = module.elf.section_bytes(module.elf.section(".rodata")?)?;
    only_version(&bytes, name_of_file(&module.name))
}

/// The minor version in a file name (`libpython3.10.so.1.0`).
fn name_of_file(name: &str) -> Option<u8> {
    let (_, rest) = name.split_once("python3.")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest.get(..digits)?.parse().ok()
}

/// The linker may have merged it into the end of another string (`/usr/local/3.10.13`).
fn only_version(bytes: &[u8], minor: Option<u8>) -> Option<Version> {
    let form =
        Regex::new(r"(?-u)(?:^|[^0-9A-Za-z.])(3\.\d{1,2}\.\d{1,2}(?:(?:a|b|rc)\d+)?)\+?\x00")
            .ok()?;
    let mut found = form
        .captures_iter(bytes)
        .filter_map(|c| Version::parse(std::str::from_utf8(c.get(1)?.as_bytes()).ok()?))
        .filter(|version| minor.is_none_or(|minor| version.minor == minor));
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_among_strings() {
        let only = |text: &[u8], minor| only_version(text, minor).map(|v| v.to_string());
        assert_eq!(only(b"\0x\x003.9.2\0", None).as_deref(), Some("3.9.2"));
        let merged = b"\0/opt/versions/3.10.13\0Python-3.10.13\0";
        assert_eq!(only(merged, Some(10)).as_deref(), Some("3.10.13"));
        let two = b"\x003.10.13\0OpenSSL 3.0.11\0";
        assert_eq!(only(two, None), None);
        assert_eq!(only(two, Some(10)).as_deref(), Some("3.10.13"));
        assert_eq!(only(b"\x0013.10.13\0 1.3.10.1\0", None), None);
        assert_eq!(name_of_file("libpython3.10.so.1.0"), Some(10));
        assert_eq!(name_of_file("python3"), None);
    }

    #[test]
    fn versions() {
        let version = Version::from_hex(0x030d_00f0).unwrap();
        assert_eq!(version.to_string(), "3.13.0");
        assert_eq!(Version::parse("3.13.0"), Some(version));
        let early = Version::from_hex(0x030e_00b2).unwrap();
        assert_eq!(early.to_string(), "3.14.0-pre");
        assert_eq!(Version::parse("3.14.0b2"), Some(early));
        assert_eq!(Version::from_hex(0), None);
        assert_eq!(Version::parse("3.x"), None);
    }
}
