//! Offsets in structures of Go's runtime and net/http: the contents of a file in `versions`.

/// One version's structures. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) goroutine: Goroutine,
    pub(crate) span: Span,
    pub(crate) collector: Collector,
    pub(crate) bucket: Bucket,
    pub(crate) http: Http,
}

/// `runtime.g`, a goroutine, and the pointer to it in `runtime.m` (a thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goroutine {
    /// `g.stack`.
    pub(crate) stack_low: u16,
    pub(crate) stack_high: u16,
    /// `g.sched`: the saved registers.
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

/// `runtime.mspan`: heap pages with objects of one size.
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
    /// Size of `freeindex` and `nelems` in bytes.
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

/// `runtime.gcController` and `runtime.work`.
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

/// `runtime.bucket`, a call stack of the heap profile, followed by its program counters and its `memRecord`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// `allnext`.
    pub(crate) next: u16,
    /// `size`.
    pub(crate) size: u16,
    /// `nstk`.
    pub(crate) frames: u16,
    /// Size of the structure itself.
    pub(crate) bytes: u16,
    /// `memRecord.active`: `allocs`, `frees`.
    pub(crate) allocations: u16,
    pub(crate) frees: u16,
}

/// net/http, and the maps of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    /// `conn.bufr`.
    pub(crate) reader: u16,
    /// `response.status`.
    pub(crate) status: u16,
    /// `responseWriterState.status` of HTTP/2 in the standard library.
    pub(crate) http2_status: u16,
    /// Location of the matched pattern in a request.
    pub(crate) pattern: Option<Pattern>,
    /// One of `heaptide_ebpf::go_maps`.
    pub(crate) maps: u8,
}

/// Location of the pattern in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A string: `Request.Pattern`.
    Text(u16),
    /// A pointer to a structure that begins with the string: `Request.pat`.
    Behind(u16),
}

impl Span {
    /// With 8-byte counters the later fields move by one word. Spans have no other variants; the kernel programs get
    /// this as a flag.
    pub(crate) fn is_wide(&self) -> bool {
        self.counter_bytes == 8
    }
}

/// Words read from a structure.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_words() {
        let words = Words(&[0x8877_6655_4433_2211, 7]);
        assert_eq!(words.word(8), 7);
        assert_eq!(words.half(4), 0x8877_6655);
        assert_eq!((words.short(2), words.byte(3)), (0x4433, 0x44));
        assert_eq!(words.word(16), 0, "was not read");
    }
}
