//! Layouts of the runtime's and net/http's structures by Go version, from the DWARF of programs built
//! with Go 1.23.9, 1.25.5 and 1.27.3. A version that is not here is recognised and observed without them.

use heaptide_ebpf::go_maps;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `runtime.g`: status, goid, why it waits, who began it, what it runs, and where it stopped.
    pub(crate) status: u64,
    /// `g.goid`.
    pub(crate) goid: u64,
    /// `g.waitreason`.
    pub(crate) wait_reason: u64,
    /// `g.gopc`.
    pub(crate) created_at: u64,
    /// `g.startpc`.
    pub(crate) starts_at: u64,
    /// `g.sched.bp`; `sp` and `pc` are at 56 and 64 everywhere.
    pub(crate) saved_bp: u64,
    /// `runtime.m.curg`.
    pub(crate) current: u16,
    /// `net/http.response.status`.
    pub(crate) response_status: u16,
    /// `http2.responseWriterState.status` of the standard library.
    pub(crate) http2_status: u16,
    /// `net/http.Request.Pattern`, 0 before Go 1.23.
    pub(crate) pattern: u16,
    /// How maps are laid out, one of [`go_maps`].
    pub(crate) maps: u8,
}

/// `g.sched.sp`.
pub(crate) const SAVED_SP: u64 = 56;
/// `g.sched.pc`.
pub(crate) const SAVED_PC: u64 = 64;
/// `net/http.conn.bufr`.
pub(crate) const CONNECTION_READER: u16 = 80;
/// `http2.responseWriterState.status` of the module beside the standard library.
pub(crate) const HTTP2_MODULE_STATUS: u16 = 72;
/// `runtime.gcController.heapLive`, the same in all versions of the table.
pub(crate) const HEAP_LIVE: u64 = 104;
/// `runtime.gcController.heapMarked`.
pub(crate) const HEAP_MARKED: u64 = 152;

/// The layout of a version (1, minor).
pub(crate) fn layout(minor: u32) -> Option<Layout> {
    let base = Layout {
        status: 144,
        goid: 152,
        wait_reason: 176,
        created_at: 280,
        starts_at: 296,
        saved_bp: 96,
        current: 184,
        response_status: 120,
        http2_status: 72,
        pattern: 232,
        maps: go_maps::GROUPS,
    };
    match minor {
        23 => Some(Layout {
            status: 152,
            goid: 160,
            wait_reason: 184,
            created_at: 288,
            starts_at: 304,
            saved_bp: 104,
            current: 192,
            maps: go_maps::BUCKETS,
            ..base
        }),
        25 => Some(base),
        27 => Some(Layout {
            created_at: 288,
            starts_at: 304,
            response_status: 128,
            http2_status: 240,
            ..base
        }),
        _ => None,
    }
}

/// The minor of a version text (`1.25.5` is 25).
pub(crate) fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("1.")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(minor("1.25.5"), Some(25));
        assert_eq!(minor("1.27rc1"), Some(27));
        assert_eq!(minor("devel +abc"), None);
        assert!(layout(25).is_some() && layout(99).is_none());
    }
}
