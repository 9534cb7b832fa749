//! Reads the objects of one interpreter: censuses, and length samples of growing containers between
//! them.

use std::time::{Duration, Instant};

use heaptide_judge::events::{Census, Lengths, Nanos};
use heaptide_process::clocks;
use heaptide_process::memory::ProcessMemory;

use super::census::{Censuses, Taken};
use super::interpreter::Interpreter;
use super::lengths::{Sampled, Samples};
use crate::door::{HeapReader, ReadError};

/// One interpreter.
pub(super) struct CPythonReader {
    memory: ProcessMemory,
    censuses: Censuses,
    /// Growing containers of the last census.
    growing: Vec<Sampled>,
    samples: Samples,
}

impl CPythonReader {
    pub(super) fn new(pid: u32, start_ticks: u64, python: Interpreter) -> Self {
        Self {
            memory: ProcessMemory::new(pid, start_ticks),
            censuses: Censuses::new(pid, start_ticks, python),
            growing: Vec::new(),
            samples: Samples::default(),
        }
    }
}

impl HeapReader for CPythonReader {
    fn census(&mut self) -> Result<Census, ReadError> {
        let begun = Instant::now();
        let Taken {
            mut census,
            growing,
            listed,
        } = self.censuses.walk()?;
        self.growing = growing;
        // A container was counted at an unknown time in between.
        let ago = |ago: Duration| Nanos(clocks::now().0.saturating_sub(ago.as_nanos() as u64));
        census.at = ago(begun.elapsed() / 2);
        census.instances_at = ago(listed.elapsed());
        Ok(census)
    }

    fn sample_growing(&mut self, growing: bool) -> Option<Lengths> {
        let wanted = if growing {
            self.growing.clone()
        } else {
            Vec::new()
        };
        self.samples
            .of(&self.memory, self.censuses.layout(), wanted)
    }

    fn sample_due(&self) -> Option<Instant> {
        self.samples.due()
    }

    fn sample(&mut self) -> Option<Lengths> {
        self.samples.take(&self.memory, self.censuses.layout())
    }
}
