//! What is to be known of a `CPython` to read its memory: where fields lie, and which form its structures have.
//! The data of each version is in `versions`.

use super::opcodes::Row;

/// How a thread state leads to its current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePointer {
    /// The frame's address lies at this offset.
    Direct(u64),
    /// A `_PyCFrame` lies at the first offset, and in it the frame at the second.
    Through(u64, u64),
}

/// How a thread state names its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadId {
    /// The kernel's thread id lies at this offset.
    Native(u64),
    /// The address of the C library's thread structure lies there, and the id in that.
    Pthread(u64),
}

/// How a frame names the instruction it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// By its address.
    Address,
    /// By its distance from the first, in words of two bytes.
    Words,
    /// The same in bytes.
    Bytes,
}

/// How a frame at rest says where its stack of values ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackTop {
    /// By a number of values, variables included.
    Index(u64),
    /// By its address; 0 while the frame runs.
    Address(u64),
    /// By the address of the first value and a number of them; -1 while the frame runs.
    Depth { first: u64, depth: u64 },
}

/// Where the frame of a generator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generator {
    /// An object of its own; none when the generator has ended.
    Frame(u64),
    /// Within the generator; it is at rest when the signed byte `state` is from the first of `rest` on, and before
    /// the second.
    Within {
        frame: u64,
        state: u64,
        rest: (i8, i8),
    },
}

/// Where the attributes of an instance with a managed dictionary lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instance {
    /// Before 3.11 none is managed.
    Unmanaged,
    /// 3.11: values four words before the object, dictionary three words before.
    TwoWords,
    /// 3.12: three words before, values if the lowest bit is set.
    Tagged,
    /// 3.13: dictionary three words before, values behind the object itself.
    Inline,
}

/// How a table of keys says how big it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysSize {
    /// A number of places; all entries have a hash.
    Number(u64),
    /// Bytes with logarithms, and the kind of entries.
    Logarithms {
        size: u64,
        index_bytes: u64,
        kind: u64,
    },
}

/// Which table a code object has of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineTable {
    /// `co_lnotab` (`Objects/lnotab_notes.txt`).
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626).
    Ranges,
    /// That of 3.11 (`Objects/locations.md`), which has columns.
    Locations,
}

/// Where the instructions of a code object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytecode {
    /// At the end of it.
    Inline(u64),
    /// In a `bytes` object.
    Object(u64),
}

/// Where the names of a code object's variables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    /// In one tuple; the last ones are free. `count` and `free` are 32-bit numbers.
    Together { names: u64, count: u64, free: u64 },
    /// In a tuple each.
    Apart { locals: u64, cells: u64, free: u64 },
}

/// Offsets in bytes, each of the field of `CPython` it is named after, and the forms that structures have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// 12 of 3.12.
    pub(crate) minor: u8,

    // _PyRuntimeState, PyInterpreterState
    /// Size of the header that stands before an object of the collector.
    pub(crate) gc_head: u64,
    /// Size of one `gc_generation`.
    pub(crate) gc_generation: u64,
    /// The collector belongs to the runtime, not to an interpreter.
    pub(crate) gc_in_runtime: bool,
    /// Heads of the three lists of the collector.
    pub(crate) gc_generations: u64,
    pub(crate) gc_permanent: u64,
    pub(crate) gc_collecting: u64,
    pub(crate) interpreters_head: u64,
    pub(crate) interp_next: u64,
    pub(crate) modules: u64,
    pub(crate) threads_head: u64,

    // PyThreadState
    pub(crate) tstate_thread: ThreadId,
    pub(crate) tstate_next: u64,
    pub(crate) tstate_interp: u64,
    pub(crate) tstate_context: u64,
    pub(crate) tstate_frame: FramePointer,

    // _PyInterpreterFrame, before 3.11 PyFrameObject
    pub(crate) frame_code: u64,
    pub(crate) frame_instruction: u64,
    pub(crate) instruction: Instruction,
    pub(crate) frame_previous: u64,
    pub(crate) frame_owner: u64,
    pub(crate) frame_locals: u64,
    /// Frames of this owner are the interpreter's own entry frames.
    pub(crate) entry_owner: Option<u8>,
    pub(crate) frame_top: StackTop,
    pub(crate) generator: Generator,

    // Objects of programs
    pub(crate) module_dict: u64,
    pub(crate) cell_value: u64,
    pub(crate) function_globals: u64,
    pub(crate) function_code: u64,
    pub(crate) function_defaults: u64,
    pub(crate) function_keywords: u64,
    pub(crate) function_closure: u64,
    pub(crate) function_dict: u64,
    pub(crate) code_firstlineno: u64,
    pub(crate) code_filename: u64,
    pub(crate) code_names: u64,
    /// The qualified name; before 3.11 the name.
    pub(crate) code_name: u64,
    pub(crate) code_lines: u64,
    pub(crate) lines: LineTable,
    pub(crate) bytecode: Bytecode,
    pub(crate) variables: Variables,

    // Objects and types
    pub(crate) ob_type: u64,
    /// `ob_size` of everything that has one.
    pub(crate) ob_size: u64,
    /// The bits of an object's first word that count references.
    pub(crate) refcount: u64,
    pub(crate) tp_name: u64,
    pub(crate) tp_basicsize: u64,
    pub(crate) tp_itemsize: u64,
    pub(crate) tp_flags: u64,
    pub(crate) tp_base: u64,
    pub(crate) tp_dict: u64,
    pub(crate) tp_dictoffset: u64,
    pub(crate) ht_qualname: u64,
    pub(crate) ht_slots: u64,
    pub(crate) ht_cached_keys: u64,
    pub(crate) instance: Instance,

    // Strings
    pub(crate) str_length: u64,
    pub(crate) str_state: u64,
    /// The lowest bit of the width of characters in the state.
    pub(crate) str_kind_shift: u32,
    /// Bits of the state.
    pub(crate) str_compact: u32,
    pub(crate) str_ascii: u32,
    /// First byte of a compact ASCII `str`.
    pub(crate) str_ascii_data: u64,
    /// The same of one that is not ASCII.
    pub(crate) str_compact_data: u64,
    /// First byte of a `bytes` object.
    pub(crate) bytes_data: u64,

    // Containers; `bytes` is the size of the object itself
    pub(crate) tuple_items: u64,
    pub(crate) list_items: u64,
    pub(crate) list_allocated: u64,
    pub(crate) set_fill: u64,
    pub(crate) set_used: u64,
    pub(crate) set_mask: u64,
    pub(crate) set_table: u64,
    pub(crate) set_bytes: u64,
    pub(crate) deque_left: u64,
    pub(crate) deque_left_index: u64,
    pub(crate) deque_maxlen: u64,
    pub(crate) deque_bytes: u64,
    /// Entries of a block.
    pub(crate) deque_block: u64,
    pub(crate) deque_block_data: u64,
    pub(crate) deque_block_next: u64,
    pub(crate) dict_used: u64,
    pub(crate) dict_keys: u64,
    pub(crate) dict_values: u64,
    pub(crate) dict_bytes: u64,
    pub(crate) keys_size: KeysSize,
    pub(crate) keys_usable: u64,
    pub(crate) keys_entries: u64,
    pub(crate) keys_indices: u64,
    /// First value in `PyDictValues`.
    pub(crate) values_first: u64,
    pub(crate) lru_cache: u64,
    pub(crate) lru_function: u64,
    pub(crate) lru_maxsize: u64,

    /// Where the interpreter says what itself.
    pub(crate) said: Option<Said>,

    // Instructions
    /// From here on opcodes are those of a program that is traced or measured from inside, whose instructions are
    /// hidden behind them.
    pub(crate) instrumented: Option<u8>,
    /// Arguments of the operators `+=` and `|=`.
    pub(crate) in_place: &'static [u32],
    pub(crate) opcodes: &'static [Row],
}

/// Where fields of `_Py_DebugOffsets` lie, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) bytes: usize,
    pub(crate) interpreters_head: usize,
    pub(crate) interp_next: usize,
    pub(crate) threads_head: usize,
    pub(crate) gc: usize,
    /// Not said: where the lists lie in the collector's structure.
    pub(crate) gc_generations: u64,
    pub(crate) gc_permanent: u64,
    pub(crate) gc_collecting: usize,
    pub(crate) modules: usize,
    pub(crate) tstate_next: usize,
    pub(crate) tstate_interp: usize,
    pub(crate) tstate_thread: usize,
    pub(crate) tstate_frame: usize,
    pub(crate) frame_code: usize,
    pub(crate) frame_previous: usize,
    pub(crate) frame_instruction: usize,
    pub(crate) frame_locals: usize,
    pub(crate) frame_owner: usize,
    pub(crate) code_filename: usize,
    pub(crate) code_name: usize,
    pub(crate) code_lines: usize,
    pub(crate) code_firstlineno: usize,
    pub(crate) code_variables: usize,
    pub(crate) code_bytecode: usize,
    pub(crate) ob_type: usize,
    pub(crate) tp_name: usize,
    pub(crate) tp_flags: usize,
    pub(crate) tuple_items: usize,
    pub(crate) list_items: usize,
    pub(crate) dict_keys: usize,
    pub(crate) dict_values: usize,
    pub(crate) bytes_data: usize,
    pub(crate) str_state: usize,
    pub(crate) str_length: usize,
    pub(crate) str_ascii_data: usize,
}
