//! Names used by the version files.

pub(super) use crate::cpython::layout::{
    Bytecode, FramePointer, Generator, Instance, Instruction, KeysSize, Layout, LineTable, Said,
    StackTop, ThreadId, Variables,
};
pub(super) use crate::cpython::opcodes::Kind;
