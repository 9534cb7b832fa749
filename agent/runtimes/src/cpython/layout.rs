//! Where the fields lie in the structures of each known `CPython`. From 3.13 on the interpreter says so
//! itself (`_Py_DebugOffsets`); what it does not say, and the older ones, are a table, measured with
//! `offsetof` on the headers of 3.11.7, 3.12.1 and 3.13.0.

use super::version::Version;

/// How a thread state leads to its current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePointer {
    /// The frame's address lies at this offset.
    Direct(u64),
    /// A `_PyCFrame` lies at the first offset, and in it the frame at the second.
    Through(u64, u64),
}

/// Where the attributes of an instance with a managed dictionary lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instance {
    /// 3.11: values four words before the object, dictionary three words before.
    TwoWords,
    /// 3.12: three words before, values if the lowest bit is set.
    Tagged,
    /// 3.13: dictionary three words before, values behind the header of the object.
    Inline,
}

/// Offsets in bytes, each of the field of CPython it is named after. What is the same in all known versions is a
/// constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) interpreters_head: u64,
    pub(crate) interp_next: u64,
    pub(crate) threads_head: u64,
    /// Heads of the three lists of the collector.
    pub(crate) gc_generations: u64,
    pub(crate) gc_permanent: u64,
    pub(crate) gc_collecting: u64,
    pub(crate) modules: u64,
    pub(crate) tstate_next: u64,
    pub(crate) tstate_interp: u64,
    pub(crate) tstate_native_id: u64,
    pub(crate) tstate_frame: FramePointer,
    pub(crate) tstate_context: u64,
    pub(crate) frame_code: u64,
    pub(crate) frame_previous: u64,
    pub(crate) frame_instr: u64,
    pub(crate) frame_owner: u64,
    /// From 3.12 on frames of this owner are the interpreter's own entry frames.
    pub(crate) entry_owner: u8,
    pub(crate) code_firstlineno: u64,
    pub(crate) code_nlocalsplus: u64,
    pub(crate) code_nfreevars: u64,
    pub(crate) code_bytecode: u64,
    /// First byte of a compact ASCII `str`.
    pub(crate) str_ascii: u64,
    /// The same of one that is not ASCII.
    pub(crate) str_compact: u64,
    pub(crate) ht_qualname: u64,
    pub(crate) ht_slots: u64,
    pub(crate) ht_cached_keys: u64,
    /// First value in `PyDictValues`.
    pub(crate) values_first: u64,
    pub(crate) instance: Instance,
    pub(crate) gen_frame: u64,
    /// `gi_frame_state`, a signed byte; positive when there is no frame any more.
    pub(crate) gen_state: u64,
}

impl Layout {
    pub(crate) const OB_TYPE: u64 = 8;
    /// `ob_size` of everything that has one.
    pub(crate) const OB_SIZE: u64 = 16;
    /// Size of the header that stands before an object of the collector.
    pub(crate) const GC_HEAD: u64 = 16;
    /// Size of one `gc_generation`.
    pub(crate) const GC_GENERATION: u64 = 24;
    pub(crate) const TP_NAME: u64 = 24;
    pub(crate) const TP_BASICSIZE: u64 = 32;
    pub(crate) const TP_ITEMSIZE: u64 = 40;
    pub(crate) const TP_FLAGS: u64 = 168;
    pub(crate) const TP_BASE: u64 = 256;
    pub(crate) const TP_DICT: u64 = 264;
    pub(crate) const TP_DICTOFFSET: u64 = 288;
    pub(crate) const FRAME_LOCALS: u64 = 72;
    pub(crate) const FRAME_STACKTOP: u64 = 64;
    pub(crate) const CODE_FILENAME: u64 = 112;
    pub(crate) const CODE_QUALNAME: u64 = 128;
    pub(crate) const CODE_LINETABLE: u64 = 136;
    pub(crate) const CODE_LOCALSPLUSNAMES: u64 = 96;
    pub(crate) const CODE_NAMES: u64 = 32;
    /// First byte of a `bytes` object.
    pub(crate) const BYTES_DATA: u64 = 32;

    /// Minor versions and what is known of them without the interpreter's help.
    #[cfg(test)]
    pub(crate) const TABLES: [(u8, Self); 2] = [(11, PY311), (12, PY312)];

    /// The layout of a version, if it is known. `offsets` are what the interpreter says itself.
    pub(super) fn of(version: Version, offsets: Option<&DebugOffsets>) -> Option<Self> {
        if version.major != 3 || !version.last {
            return None;
        }
        match version.minor {
            11 => Some(PY311),
            12 => Some(PY312),
            13 => Some(offsets?.amend(PY313)),
            _ => None,
        }
    }
}

const PY311: Layout = Layout {
    interpreters_head: 40,
    interp_next: 0,
    threads_head: 16,
    gc_generations: 672,
    gc_permanent: 752,
    gc_collecting: 848,
    modules: 888,
    tstate_next: 8,
    tstate_interp: 16,
    tstate_native_id: 160,
    tstate_frame: FramePointer::Through(56, 8),
    tstate_context: 224,
    frame_code: 32,
    frame_previous: 48,
    frame_instr: 56,
    frame_owner: 69,
    entry_owner: u8::MAX,
    code_firstlineno: 72,
    code_nlocalsplus: 76,
    code_nfreevars: 92,
    code_bytecode: 184,
    str_ascii: 48,
    str_compact: 72,
    ht_qualname: 864,
    ht_slots: 856,
    ht_cached_keys: 872,
    values_first: 0,
    instance: Instance::TwoWords,
    gen_frame: 80,
    gen_state: 75,
};

const PY312: Layout = Layout {
    threads_head: 72,
    gc_generations: 136,
    gc_permanent: 216,
    gc_collecting: 312,
    modules: 944,
    tstate_native_id: 144,
    tstate_frame: FramePointer::Through(56, 0),
    tstate_context: 208,
    frame_code: 0,
    frame_previous: 8,
    frame_owner: 70,
    entry_owner: 3,
    code_firstlineno: 68,
    code_nlocalsplus: 72,
    code_nfreevars: 88,
    code_bytecode: 192,
    str_ascii: 40,
    str_compact: 56,
    ht_qualname: 872,
    ht_slots: 864,
    ht_cached_keys: 880,
    instance: Instance::Tagged,
    gen_frame: 72,
    gen_state: 67,
    ..PY311
};

const PY313: Layout = Layout {
    interpreters_head: 632,
    interp_next: 7264,
    threads_head: 7344,
    gc_generations: 7424,
    gc_permanent: 7504,
    gc_collecting: 7600,
    modules: 7656,
    tstate_native_id: 160,
    tstate_frame: FramePointer::Direct(72),
    code_bytecode: 200,
    values_first: 8,
    instance: Instance::Inline,
    ..PY312
};

/// The beginning of `_Py_DebugOffsets` as 3.13 lays it out, 64-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DebugOffsets([u64; Self::WORDS]);

impl DebugOffsets {
    const WORDS: usize = 73;
    /// Bytes of it.
    pub(super) const LEN: usize = Self::WORDS * 8;

    /// From the bytes at `_PyRuntime`; `None` without the cookie (before 3.13).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != b"xdebugpy" {
            return None;
        }
        let mut words = [0; Self::WORDS];
        for (word, piece) in words
            .iter_mut()
            .zip(bytes.get(..Self::LEN)?.chunks_exact(8))
        {
            *word = u64::from_le_bytes(piece.try_into().ok()?);
        }
        Some(Self(words))
    }

    pub(super) fn version(&self) -> u32 {
        self.0[1] as u32
    }

    pub(super) fn free_threaded(&self) -> bool {
        self.0[2] != 0
    }

    /// Puts what is said here in place of what the table says.
    fn amend(&self, table: Layout) -> Layout {
        let gc = self.0[10];
        Layout {
            interpreters_head: self.0[5],
            interp_next: self.0[8],
            threads_head: self.0[9],
            gc_generations: gc + 24,
            gc_permanent: gc + 104,
            gc_collecting: gc + self.0[72],
            modules: self.0[11],
            tstate_next: self.0[21],
            tstate_interp: self.0[22],
            tstate_native_id: self.0[25],
            tstate_frame: FramePointer::Direct(self.0[23]),
            frame_code: self.0[30],
            frame_previous: self.0[29],
            frame_instr: self.0[31],
            frame_owner: self.0[33],
            code_firstlineno: self.0[39],
            code_bytecode: self.0[43],
            str_ascii: self.0[70],
            ..table
        }
    }
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
        assert_eq!(Layout::of(version(11, true), None), Some(PY311));
        assert_eq!(Layout::of(version(10, true), None), None);
        assert_eq!(Layout::of(version(12, false), None), None, "a beta");
        assert_eq!(
            Layout::of(version(13, true), None),
            None,
            "3.13 without its own offsets is something else"
        );
    }

    #[test]
    fn offsets_that_the_interpreter_gives() {
        assert_eq!(DebugOffsets::parse(&[0; DebugOffsets::LEN]), None);
        let mut bytes = vec![0; DebugOffsets::LEN];
        bytes[..8].copy_from_slice(b"xdebugpy");
        bytes[8..16].copy_from_slice(&0x030d_01f0_u64.to_le_bytes());
        bytes[11 * 8..12 * 8].copy_from_slice(&4711_u64.to_le_bytes());
        let offsets = DebugOffsets::parse(&bytes).unwrap();
        assert_eq!(offsets.version(), 0x030d_01f0);
        assert!(!offsets.free_threaded());
        let version = Version::from_hex(offsets.version()).unwrap();
        assert_eq!(Layout::of(version, Some(&offsets)).unwrap().modules, 4711);
        assert_eq!(DebugOffsets::parse(b"xdebugpy"), None, "cut short");
    }
}
