//! Which `CPython` it is, exactly: from `Py_Version`, the debug offsets, or the version string.

use std::fmt;

use regex::bytes::Regex;

use super::layout::DebugOffsets;
use heaptide_process::Module;

/// A version of `CPython`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// 3.
    pub(crate) major: u8,
    /// 13 in 3.13.0.
    pub(crate) minor: u8,
    /// 0 in 3.13.0.
    pub(crate) micro: u8,
    /// It was released: no alpha, beta or candidate, whose layouts may differ.
    pub(crate) last: bool,
}

impl Version {
    /// From `PY_VERSION_HEX` (`0x030d00f0` is 3.13.0).
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

/// What a file says of its interpreter.
pub(super) struct Build {
    pub(super) version: Option<Version>,
    pub(super) free_threaded: bool,
    pub(super) offsets: Option<DebugOffsets>,
}

impl Build {
    /// Reads the file; `runtime` is the address of `_PyRuntime` in its own terms.
    pub(super) fn of(module: &Module, runtime: u64) -> Self {
        let elf = &module.elf;
        // _PyRuntime is initialised statically: what the file holds is what the process began with
        let offsets = elf
            .at(runtime, DebugOffsets::LEN)
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

/// `PY_VERSION` among the read-only strings; only if there is no other that looks like it.
fn in_strings(module: &Module) -> Option<Version> {
    let bytes = module.elf.section_bytes(module.elf.section(".rodata")?)?;
    let form = Regex::new(r"\x00(3\.\d{1,2}\.\d{1,2}(?:(?:a|b|rc)\d+)?)\+?\x00").ok()?;
    let mut found = form
        .captures_iter(&bytes)
        .filter_map(|c| std::str::from_utf8(c.get(1)?.as_bytes()).ok());
    let first = found.next()?;
    found
        .all(|other| other == first)
        .then(|| Version::parse(first))?
}

#[cfg(test)]
mod tests {
    use super::*;

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
