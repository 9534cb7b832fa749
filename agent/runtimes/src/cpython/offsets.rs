//! An interpreter's description of its own layout, from 3.13 on: `_Py_DebugOffsets`.

use super::layout::{Bytecode, FramePointer, Layout, Said, ThreadId, Variables};

/// Contents of `_Py_DebugOffsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DebugOffsets(Vec<u8>);

impl DebugOffsets {
    /// Length of the part that is the same in all versions.
    const HEAD: usize = 24;
    /// Longer than the structure of any version.
    pub(super) const MOST: usize = 4096;
    /// Upper bound of an offset in a structure.
    const GREATEST: u64 = 16 << 20;

    /// Parses the bytes at `_PyRuntime`; `None` without the cookie (before 3.13).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.get(..8)? == b"xdebugpy" && bytes.len() >= Self::HEAD)
            .then(|| Self(bytes.get(..Self::MOST).unwrap_or(bytes).to_vec()))
    }

    fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn version(&self) -> u32 {
        self.word(8).unwrap_or(0) as u32
    }

    pub(super) fn free_threaded(&self) -> bool {
        self.word(16).is_some_and(|word| word != 0)
    }

    /// Overrides the table's offsets; `None` if an offset is implausible.
    pub(super) fn amend(&self, table: Layout, said: &Said) -> Option<Layout> {
        let offset = |at| self.word(at).filter(|offset| *offset < Self::GREATEST);
        let gc = offset(said.gc)?;
        let variables = match table.variables {
            Variables::Together { count, free, .. } => Variables::Together {
                names: offset(said.code_variables)?,
                count,
                free,
            },
            apart @ Variables::Apart { .. } => apart,
        };
        Some(Layout {
            interpreters_head: offset(said.interpreters_head)?,
            interp_next: offset(said.interp_next)?,
            threads_head: offset(said.threads_head)?,
            gc_generations: gc + said.gc_generations,
            gc_permanent: gc + said.gc_permanent,
            gc_collecting: gc + offset(said.gc_collecting)?,
            modules: offset(said.modules)?,
            tstate_next: offset(said.tstate_next)?,
            tstate_interp: offset(said.tstate_interp)?,
            tstate_thread: ThreadId::Native(offset(said.tstate_thread)?),
            tstate_frame: FramePointer::Direct(offset(said.tstate_frame)?),
            frame_code: offset(said.frame_code)?,
            frame_previous: offset(said.frame_previous)?,
            frame_instruction: offset(said.frame_instruction)?,
            frame_locals: offset(said.frame_locals)?,
            frame_owner: offset(said.frame_owner)?,
            code_filename: offset(said.code_filename)?,
            code_name: offset(said.code_name)?,
            code_lines: offset(said.code_lines)?,
            code_firstlineno: offset(said.code_firstlineno)?,
            variables,
            bytecode: Bytecode::Inline(offset(said.code_bytecode)?),
            ob_type: offset(said.ob_type)?,
            tp_name: offset(said.tp_name)?,
            tp_flags: offset(said.tp_flags)?,
            tuple_items: offset(said.tuple_items)?,
            list_items: offset(said.list_items)?,
            dict_keys: offset(said.dict_keys)?,
            dict_values: offset(said.dict_values)?,
            bytes_data: offset(said.bytes_data)?,
            str_state: offset(said.str_state)?,
            str_length: offset(said.str_length)?,
            str_ascii_data: offset(said.str_ascii_data)?,
            ..table
        })
    }
}
