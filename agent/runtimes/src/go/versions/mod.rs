//! Where the structures of Go's runtime and of net/http have their fields, by minor version: a file each, which
//! `cargo xtask layouts go` writes, and a line each in the table. A version that is not here is recognised and observed
//! without them.

use heaptide_ebpf::go_maps;

/// The table: a minor version and its file.
macro_rules! versions {
    ($($minor:literal $module:ident $file:literal)*) => {
        $(#[path = $file] mod $module;)*
        const TABLE: &[(u32, Layout)] = &[$(($minor, $module::LAYOUT)),*];
    };
}

versions! {
    21 go_1_21 "1_21.rs"
    22 go_1_22 "1_22.rs"
    23 go_1_23 "1_23.rs"
    24 go_1_24 "1_24.rs"
    25 go_1_25 "1_25.rs"
    26 go_1_26 "1_26.rs"
    27 go_1_27 "1_27.rs"
}

/// One version's structures. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) goroutine: Goroutine,
    pub(crate) span: Span,
    pub(crate) collector: Collector,
    pub(crate) bucket: Bucket,
    pub(crate) http: Http,
}

/// `runtime.g`, a goroutine, and how a thread (`runtime.m`) leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goroutine {
    /// `g.stack`.
    pub(crate) stack_low: u16,
    pub(crate) stack_high: u16,
    /// `g.sched`: where it stopped.
    pub(crate) saved_sp: u16,
    pub(crate) saved_pc: u16,
    pub(crate) saved_bp: u16,
    /// `g.atomicstatus`.
    pub(crate) status: u16,
    /// `g.gopc`.
    pub(crate) created_at: u16,
    /// `g.startpc`.
    pub(crate) starts_at: u16,
    /// `m.curg`.
    pub(crate) current: u16,
}

/// `runtime.mspan`, pages of the heap that hold objects of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// `startAddr`.
    pub(crate) start: u16,
    /// `npages`.
    pub(crate) pages: u16,
    /// `freeindex`.
    pub(crate) free: u16,
    /// `nelems`.
    pub(crate) objects: u16,
    /// Bytes of those two.
    pub(crate) counter_bytes: u16,
    /// `allocCache`.
    pub(crate) cache: u16,
    /// `allocBits`.
    pub(crate) bits: u16,
    /// `sweepgen`.
    pub(crate) sweep: u16,
    /// `allocCount`.
    pub(crate) allocated: u16,
    /// `spanclass`.
    pub(crate) class: u16,
    /// `state`.
    pub(crate) state: u16,
    /// `allocCountBeforeCache`.
    pub(crate) before: u16,
    /// `elemsize`.
    pub(crate) size: u16,
}

/// `runtime.gcController`, and the `runtime.work` of its collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    /// `gcController.heapLive`.
    pub(crate) live: u16,
    /// `gcController.heapMarked`.
    pub(crate) marked: u16,
    /// `work.cycles`.
    pub(crate) cycles: u16,
    /// `work.stwprocs`.
    pub(crate) processors: u16,
    /// `work.tMarkTerm`.
    pub(crate) mark_ended: u16,
    /// `work.tEnd`.
    pub(crate) ended: u16,
}

/// `runtime.bucket`, a call stack of the heap profile; its program counters and its `memRecord` lie behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// `allnext`.
    pub(crate) next: u16,
    /// `size`.
    pub(crate) size: u16,
    /// `nstk`.
    pub(crate) frames: u16,
    /// Of the structure itself.
    pub(crate) bytes: u16,
    /// `memRecord.active`: `allocs`, `frees`.
    pub(crate) allocations: u16,
    pub(crate) frees: u16,
}

/// net/http, and the maps that it keeps headers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    /// `conn.bufr`.
    pub(crate) reader: u16,
    /// `response.status`.
    pub(crate) status: u16,
    /// The `responseWriterState.status` of HTTP/2 in the standard library.
    pub(crate) http2_status: u16,
    /// The pattern that a request has matched.
    pub(crate) pattern: Option<Pattern>,
    /// One of [`go_maps`].
    pub(crate) maps: u8,
}

/// Where a request has its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A string in it: `Request.Pattern`.
    Text(u16),
    /// A pointer in it to what begins with the string: `Request.pat`.
    Behind(u16),
}

impl Span {
    /// Counters of eight bytes move what is behind them by one word, which is all that spans differ in: the kernel half
    /// is told.
    pub(crate) fn is_wide(&self) -> bool {
        self.counter_bytes == 8
    }
}

/// Words of a structure that were read.
pub(crate) struct Words<'a>(pub(crate) &'a [u64]);

impl Words<'_> {
    /// The word at an offset.
    pub(crate) fn word(&self, offset: u16) -> u64 {
        self.0.get(usize::from(offset / 8)).copied().unwrap_or(0)
    }

    /// The four bytes at an offset.
    pub(crate) fn half(&self, offset: u16) -> u32 {
        (self.word(offset) >> (offset % 8 * 8)) as u32
    }

    /// The two bytes at an offset.
    pub(crate) fn short(&self, offset: u16) -> u16 {
        self.half(offset) as u16
    }

    /// The byte at an offset.
    pub(crate) fn byte(&self, offset: u16) -> u8 {
        self.half(offset) as u8
    }
}

/// The layout of a version (1, minor).
pub(crate) fn layout(minor: u32) -> Option<Layout> {
    let row = TABLE.iter().find(|row| row.0 == minor);
    row.map(|row| row.1)
}

/// The minor versions of the table.
#[cfg(test)]
pub(crate) fn minors() -> impl Iterator<Item = u32> {
    TABLE.iter().map(|row| row.0)
}

/// The versions that are known, for people: `Go 1.21 to 1.27`.
pub(crate) fn known() -> String {
    let minors: Vec<u32> = TABLE.iter().map(|row| row.0).collect();
    match minors[..] {
        [first, .., last] if minors.windows(2).all(|two| two[0] + 1 == two[1]) => {
            format!("Go 1.{first} to 1.{last}")
        }
        _ => {
            let each: Vec<String> = minors.iter().map(|minor| format!("1.{minor}")).collect();
            format!("Go {}", each.join(", "))
        }
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
    use crate::go::{blocks, goroutines, profile};

    #[test]
    fn versions() {
        assert_eq!(minor("1.25.5"), Some(25));
        assert_eq!(minor("1.27rc1"), Some(27));
        assert_eq!(minor("devel +abc"), None);
        assert!(layout(25).is_some() && layout(99).is_none());
        assert_eq!(known(), "Go 1.21 to 1.27");
    }

    #[test]
    fn what_is_read_of_a_structure_holds_its_fields() {
        for (minor, layout) in TABLE {
            let fits = |bytes: usize, fields: &[u16]| {
                for field in fields {
                    let end = usize::from(*field) + 8;
                    assert!(end <= bytes, "1.{minor}: {field} of {bytes}");
                }
            };
            let g = layout.goroutine;
            let stack = [
                g.stack_low,
                g.stack_high,
                g.saved_sp,
                g.saved_pc,
                g.saved_bp,
            ];
            fits(goroutines::G_BYTES, &stack);
            fits(goroutines::G_BYTES, &[g.status, g.created_at, g.starts_at]);
            let s = layout.span;
            fits(blocks::SPAN_BYTES, &[s.start, s.pages, s.bits, s.size]);
            let b = layout.bucket;
            fits(profile::HEAD_BYTES, &[b.next, b.size, b.frames]);
            assert!(b.bytes % 8 == 0 && b.allocations % 8 == 0 && b.frees % 8 == 0);
        }
    }

    /// `agent-ebpf` reads spans by these two forms.
    #[test]
    fn spans_are_as_the_kernel_half_has_them() {
        for (minor, layout) in TABLE {
            let s = layout.span;
            let wide = u16::from(s.is_wide()) * 8;
            let counters = if s.is_wide() { [48, 56] } else { [48, 50] };
            assert_eq!([s.free, s.objects], counters, "1.{minor}");
            assert!([2, 8].contains(&s.counter_bytes), "1.{minor}");
            let behind = [
                s.cache,
                s.sweep,
                s.allocated,
                s.class,
                s.state,
                s.before,
                s.size,
            ];
            let wanted = [56, 88, 96, 98, 99, 102, 104].map(|offset| offset + wide);
            assert_eq!((s.start, behind), (24, wanted), "1.{minor}");
        }
    }

    #[test]
    fn parts_of_words() {
        let words = Words(&[0x8877_6655_4433_2211, 7]);
        assert_eq!(words.word(8), 7);
        assert_eq!(words.half(4), 0x8877_6655);
        assert_eq!((words.short(2), words.byte(3)), (0x4433, 0x44));
        assert_eq!(words.word(16), 0, "was not read");
    }
}
