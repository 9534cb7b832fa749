//! Observes a `CPython` process: context copies, stacks at page faults, and its objects.

use std::{fs, os::linux::fs::MetadataExt as _};

use heaptide_ebpf::{PythonConfig, Stack};
use heaptide_judge::events::{Census, Site, SiteId};
use heaptide_process::Inspected;
use heaptide_process::plan::wishes::{Ask, ProbeWish, Wishes};
use heaptide_process::plan::{Program, Purpose};

use super::interpreter::Interpreter;
use super::layout::{Bytecode, FramePointer, Instruction, ThreadId};
use super::reader::CPythonReader;
use super::stacks::Stacks;
use super::threads;
use crate::door::{HeapReader, Observer, RuntimeSettings};

/// The current context was copied.
pub(super) const CONTEXT_COPIED: Program = Program::returning("python_context", Purpose::Task);

/// A readable interpreter.
pub(super) struct CPythonObserver {
    pid: u32,
    start_ticks: u64,
    python: Interpreter,
    /// `None` before the observation begins.
    stacks: Option<Stacks>,
}

impl CPythonObserver {
    pub(super) fn new(process: &Inspected, python: Interpreter) -> Self {
        Self {
            pid: process.pid,
            start_ticks: process.start_ticks,
            python,
            stacks: None,
        }
    }
}

impl Observer for CPythonObserver {
    fn probes(&self, _: bool) -> Wishes {
        let copy = self.python.context_copy.iter();
        Wishes {
            probes: copy
                .map(|function| ProbeWish {
                    function: function.clone(),
                    ask: Ask::Return(CONTEXT_COPIED, 0),
                })
                .collect(),
            ..Wishes::default()
        }
    }

    fn settings(&self) -> RuntimeSettings {
        RuntimeSettings {
            readable: true,
            frames: frames(self.pid, self.start_ticks, &self.python),
            ..RuntimeSettings::default()
        }
    }

    fn sees_heap(&self) -> bool {
        true
    }

    fn begin(&mut self, layout: u32) {
        self.stacks = Some(Stacks::new(
            self.pid,
            self.start_ticks,
            layout,
            self.python.clone(),
        ));
    }

    fn heap_reader(&self) -> Option<Box<dyn HeapReader>> {
        let reader = CPythonReader::new(self.pid, self.start_ticks, self.python.clone());
        Some(Box::new(reader))
    }

    fn own_site(
        &mut self,
        raw: u64,
        pages: u64,
        stack: &mut dyn FnMut() -> Option<Stack>,
    ) -> (Option<SiteId>, Option<Site>) {
        match &mut self.stacks {
            Some(stacks) => stacks.add(raw, pages, stack),
            None => (None, None),
        }
    }

    fn complete(&self, census: &mut Census) {
        if let Some(stacks) = &self.stacks {
            for container in &mut census.containers {
                stacks.name_writers(container);
            }
        }
    }
}

/// What the kernel programs need to walk the frames of an interpreter.
fn frames(pid: u32, start_ticks: u64, python: &Interpreter) -> Option<PythonConfig> {
    let layout = &python.layout;
    let namespace = fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
    let device = namespace.st_dev();
    let (frame, frame_through) = match layout.tstate_frame {
        FramePointer::Direct(at) => (at as u32, u32::MAX),
        FramePointer::Through(at, then) => (at as u32, then as u32),
    };
    let (thread_id, thread_through) = match layout.tstate_thread {
        ThreadId::Native(at) => (at, u32::MAX),
        ThreadId::Pthread(at) => (at, threads::id_offset(pid, start_ticks, python)),
    };
    Some(PythonConfig {
        runtime: python.runtime,
        // the kernel's internal encoding of a device number
        namespace_device: u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device)),
        namespace_inode: namespace.st_ino(),
        interpreters: layout.interpreters_head as u32,
        threads: layout.threads_head as u32,
        next: layout.tstate_next as u32,
        thread_id: thread_id as u32,
        thread_through,
        frame,
        frame_through,
        code: layout.frame_code as u32,
        previous: layout.frame_previous as u32,
        instruction: layout.frame_instruction as u32,
        instruction_shift: match layout.instruction {
            Instruction::Address => u32::MAX,
            Instruction::Words => 0,
            Instruction::Bytes => 1,
        },
        owner: layout.frame_owner as u32,
        entry_owner: layout.entry_owner.map_or(u32::MAX, u32::from),
        bytecode: match layout.bytecode {
            Bytecode::Inline(at) => at as u32,
            Bytecode::Object(_) => 0,
        },
        context: layout.tstate_context as u32,
        reserved: 0,
    })
}
