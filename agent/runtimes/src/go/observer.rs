//! Observes a Go process: probes in net/http and the runtime, and the runtime's statistics.

use std::mem;

use heaptide_ebpf::{Block, target_flags};
use heaptide_judge::events::{Nanos, Observation};
use heaptide_process::Inspected;
use heaptide_process::plan::wishes::Wishes;
use heaptide_process::symbols::Symbolizer;

use super::probes;
use super::program::Program;
use super::reader::GoReader;
use crate::door::{Observer, PickedObject, RuntimeSettings};

/// One Go process.
pub(super) struct GoObserver {
    pid: u32,
    start_ticks: u64,
    /// `None`: its function table cannot be read.
    program: Option<Program>,
    /// Requests are traced by system calls.
    by_calls: bool,
    /// `None` before the observation begins, or if the layout is unknown.
    reader: Option<GoReader>,
}

impl GoObserver {
    pub(super) fn new(process: &Inspected, program: Option<Program>) -> Self {
        Self {
            pid: process.pid,
            start_ticks: process.start_ticks,
            by_calls: !program.as_ref().is_some_and(Program::sees_requests),
            program,
            reader: None,
        }
    }
}

impl Observer for GoObserver {
    fn probes(&self, allocations: bool) -> Wishes {
        let mut wishes = Wishes::default();
        if let Some(program) = &self.program {
            probes::wishes(program, allocations, &mut wishes);
        }
        wishes.no_handlers =
            Some("--handler does not work in Go, because stacks move while a function runs");
        wishes
    }

    fn settings(&self) -> RuntimeSettings {
        RuntimeSettings {
            requests: if self.by_calls {
                target_flags::REQUESTS
            } else {
                target_flags::GO_REQUESTS
            },
            maps_own_heap: self.program.is_some(),
            ..RuntimeSettings::default()
        }
    }

    fn trace_otherwise(&mut self) -> Option<&'static str> {
        let before = mem::replace(&mut self.by_calls, true);
        (!before).then_some(
            "none of its requests went through net/http: they are traced by system calls and bound to threads",
        )
    }

    fn sees_heap(&self) -> bool {
        self.program
            .as_ref()
            .is_some_and(|program| program.layout.is_some())
    }

    fn begin(&mut self, layout: u32) {
        let program = self.program.as_ref();
        let (pid, start_ticks) = (self.pid, self.start_ticks);
        self.reader = program.and_then(|program| GoReader::new(pid, start_ticks, layout, program));
    }

    fn picked(&mut self, object: &PickedObject) {
        if let Some(reader) = &mut self.reader {
            reader.block(object);
        }
    }

    fn watch(&mut self, at: Nanos) {
        if let Some(reader) = &mut self.reader {
            reader.watch(at);
        }
    }

    fn interval(&self) -> u32 {
        self.reader.as_ref().map_or(0, GoReader::interval)
    }

    fn live(&mut self, at: Nanos, add: &mut dyn FnMut(&Block)) {
        if let Some(reader) = &mut self.reader {
            reader.live(at, add);
        }
    }

    fn forget_objects(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.forget();
        }
    }

    fn read(&mut self, at: Nanos, symbolizer: &mut Symbolizer, say: &mut dyn FnMut(Observation)) {
        if let Some(reader) = &mut self.reader {
            reader.read(at, symbolizer, say);
        }
    }

    fn enable_profile(&mut self) -> Option<String> {
        self.reader.as_mut()?.enable_profile()
    }
}
