//! Observes a Go process: probes in net/http and the runtime, and the runtime's statistics.

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
    /// `None` before the observation begins, or if the layout is unknown.
    reader: Option<GoReader>,
}

impl GoObserver {
    pub(super) fn new(process: &Inspected, program: Option<Program>) -> Self {
        Self {
            pid: process.pid,
            start_ticks: process.start_ticks,
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
        let program = self.program.as_ref();
        RuntimeSettings {
            requests: if program.is_some_and(Program::sees_requests) {
                target_flags::GO_REQUESTS
            } else {
                target_flags::REQUESTS
            },
            maps_own_heap: program.is_some(),
            ..RuntimeSettings::default()
        }
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
