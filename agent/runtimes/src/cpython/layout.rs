//! What is needed to read the memory of a `CPython`: offsets of fields, and the forms of its structures. The data
//! of each version is in `versions`.

use super::opcodes::Row;

/// How to find the current frame of a thread state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePointer {
    /// The frame's address is at this offset.
    Direct(u64),
    /// A `_PyCFrame` is at the first offset, and in it the frame at the second.
    Through(u64, u64),
}

/// How a thread state identifies its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadId {
    /// The kernel's thread id is at this offset.
    Native(u64),
    /// The address of the C library's thread structure is at this offset, and the id is in that.
    Pthread(u64),
}

/// How a frame stores its current instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// As an address.
    Address,
    /// As an index in words of two bytes.
    Words,
    /// As an offset in bytes.
    Bytes,
}

/// How a suspended frame stores the end of its value stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackTop {
    /// As a number of values, including variables.
    Index(u64),
    /// As an address; 0 while the frame runs.
    Address(u64),
    /// As the address of the first value and a number of values; -1 while the frame runs.
    Depth { first: u64, depth: u64 },
}

/// The location of a generator's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generator {
    /// A separate object; NULL if the generator has ended.
    Frame(u64),
    /// Within the generator. It is suspended if the signed byte `state` is in the range `rest`.
    Within {
        frame: u64,
        state: u64,
        rest: (i8, i8),
    },
}

/// Location of the attributes of an instance with a managed dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instance {
    /// Before 3.11: there are none.
    Unmanaged,
    /// 3.11: values four words before the object, dictionary three words before.
    TwoWords,
    /// 3.12: three words before, values if the lowest bit is set.
    Tagged,
    /// 3.13: dictionary three words before, values after the object itself.
    Inline,
}

/// How a key table stores its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysSize {
    /// As a number of slots; all entries have a hash.
    Number(u64),
    /// As bytes with logarithms, and the kind of entries.
    Logarithms {
        size: u64,
        index_bytes: u64,
        kind: u64,
    },
}

/// The format of a code object's line table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineTable {
    /// `co_lnotab` (`Objects/lnotab_notes.txt`).
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626).
    Ranges,
    /// The one of 3.11 (`Objects/locations.md`), which has columns.
    Locations,
}

/// The location of a code object's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytecode {
    /// At its end.
    Inline(u64),
    /// In a `bytes` object.
    Object(u64),
}

/// The location of the variable names of a code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    /// In one tuple; free variables are last. `count` and `free` are 32-bit numbers.
    Together { names: u64, count: u64, free: u64 },
    /// In one tuple each.
    Apart { locals: u64, cells: u64, free: u64 },
}

/// Offsets in bytes, named after the fields of `CPython`, and the forms of structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// 12 for 3.12.
    pub(crate) minor: u8,

    // _PyRuntimeState, PyInterpreterState
    /// Size of the collector's header before an object.
    pub(crate) gc_head: u64,
    /// Size of one `gc_generation`.
    pub(crate) gc_generation: u64,
    /// The collector belongs to the runtime, not to an interpreter.
    pub(crate) gc_in_runtime: bool,
    /// Heads of the collector's three lists.
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
    /// Owner of the interpreter's own entry frames.
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
    /// Qualified name; before 3.11 the name.
    pub(crate) code_name: u64,
    pub(crate) code_lines: u64,
    pub(crate) lines: LineTable,
    pub(crate) bytecode: Bytecode,
    pub(crate) variables: Variables,

    // Objects and types
    pub(crate) ob_type: u64,
    /// `ob_size` of all variable-size objects.
    pub(crate) ob_size: u64,
    /// The bits of an object's first word that are the reference count.
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
    /// The lowest bit of the character width in the state.
    pub(crate) str_kind_shift: u32,
    /// Bits of the state.
    pub(crate) str_compact: u32,
    pub(crate) str_ascii: u32,
    /// First byte of a compact ASCII `str`.
    pub(crate) str_ascii_data: u64,
    /// First byte of a compact `str` that is not ASCII.
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
    /// Entries per block.
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

    /// Location of the interpreter's debug offsets.
    pub(crate) said: Option<Said>,

    // Instructions
    /// Opcodes from here on are instrumented ones, which hide the original instruction.
    pub(crate) instrumented: Option<u8>,
    /// Arguments of the operators `+=` and `|=`.
    pub(crate) in_place: &'static [u32],
    pub(crate) opcodes: &'static [Row],
}

/// Offsets of the fields of `_Py_DebugOffsets`, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) bytes: usize,
    pub(crate) interpreters_head: usize,
    pub(crate) interp_next: usize,
    pub(crate) threads_head: usize,
    pub(crate) gc: usize,
    /// Not in the debug offsets: the position of the lists in the collector's structure.
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
