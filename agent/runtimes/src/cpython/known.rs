//! The layout of a version: from the table, overridden by the interpreter's own debug offsets.

use std::sync::Arc;

use super::layout::Layout;
use super::offsets::DebugOffsets;
use super::version::Version;
use super::versions;

/// The layout of a released version, if known. `offsets` are the interpreter's debug offsets.
pub(super) fn of(version: Version, offsets: Option<&DebugOffsets>) -> Option<Arc<Layout>> {
    if !version.last {
        return None;
    }
    from_table(versions::of(version.minor)?, offsets)
}

/// The layout of the nearest known version, for one that is newer or unreleased. It must be verified.
pub(super) fn nearest(version: Version, offsets: Option<&DebugOffsets>) -> Option<Arc<Layout>> {
    let newest = versions::TABLE.last()?;
    if version.minor < newest.minor && version.last {
        return None;
    }
    let nearest = versions::of(version.minor).unwrap_or(newest);
    from_table(nearest, offsets)
}

fn from_table(table: &Layout, offsets: Option<&DebugOffsets>) -> Option<Arc<Layout>> {
    let layout = match &table.said {
        Some(said) => offsets?.amend(table.clone(), said)?,
        None => table.clone(),
    };
    Some(Arc::new(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_a_table_have_no_layout() {
        let version = |minor, last| Version {
            major: 3,
            minor,
            micro: 1,
            last,
        };
        assert_eq!(
            of(version(11, true), None).map(|layout| layout.minor),
            Some(11)
        );
        assert_eq!(of(version(7, true), None), None);
        assert_eq!(of(version(12, false), None), None, "a beta");
        assert_eq!(
            of(version(13, true), None),
            None,
            "3.13 without its own offsets is something else"
        );
        let nearest = |minor, last| super::nearest(version(minor, last), None);
        assert_eq!(nearest(12, false).map(|layout| layout.minor), Some(12));
        assert_eq!(nearest(7, true), None, "an old one is not like the newest");
    }

    #[test]
    fn offsets_that_the_interpreter_gives() {
        let said = versions::of(13)
            .and_then(|layout| layout.said.clone())
            .unwrap();
        assert_eq!(DebugOffsets::parse(&vec![0; said.bytes]), None);
        let mut bytes = vec![0; said.bytes];
        bytes[..8].copy_from_slice(b"xdebugpy");
        bytes[8..16].copy_from_slice(&0x030d_01f0_u64.to_le_bytes());
        bytes[said.modules..said.modules + 8].copy_from_slice(&4711_u64.to_le_bytes());
        let offsets = DebugOffsets::parse(&bytes).unwrap();
        assert_eq!(offsets.version(), 0x030d_01f0);
        assert!(!offsets.free_threaded());
        let mut without_gil = bytes.clone();
        without_gil[16] = 1;
        assert!(DebugOffsets::parse(&without_gil).unwrap().free_threaded());
        let version = Version::from_hex(offsets.version()).unwrap();
        assert_eq!(of(version, Some(&offsets)).unwrap().modules, 4711);
        assert_eq!(DebugOffsets::parse(b"xdebugpy"), None, "cut short");
        let cut = DebugOffsets::parse(&bytes[..said.bytes / 2]).unwrap();
        assert_eq!(of(version, Some(&cut)), None, "cut in the middle");
        bytes[said.gc..said.gc + 8].fill(0xff);
        let wild = DebugOffsets::parse(&bytes).unwrap();
        assert_eq!(of(version, Some(&wild)), None, "no offset");
    }
}
