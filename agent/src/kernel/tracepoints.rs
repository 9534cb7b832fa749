//! Tracepoints of processes and page faults, which are always attached, and of system calls.
//!
//! The latter cost every system call of the host, so they are attached only while a target needs them.

use std::io;

use tracing::debug;

use super::{
    Kernel, KernelError, Link, attach,
    events::{ENTERS, EXITS, Event, FORK, PROCESSES, RAW_ENTER, RAW_EXIT, RawTracepoint},
    programs::Kind,
    raw, tracefs,
};

impl Kernel {
    /// Loads the programs for processes and page faults.
    pub(super) fn load_processes(&mut self) -> Result<(), KernelError> {
        self.load_raw(&PROCESSES)?;
        self.programs.load(&mut self.ebpf, FORK.0, Kind::Event)
    }

    /// Loads the programs for system calls unless they are loaded.
    pub fn load_calls(&mut self) -> Result<(), KernelError> {
        for enter in &ENTERS {
            self.programs.load(&mut self.ebpf, enter.0, Kind::Event)?;
        }
        self.load_raw(&[RAW_ENTER, RAW_EXIT])?;
        for (name, _) in EXITS {
            self.programs.load(&mut self.ebpf, name, Kind::Raw)?;
        }
        let exits = self.ebpf.map("EXITS").and_then(raw::map_fd);
        let exits = exits.ok_or(KernelError::Object {
            what: "map",
            name: "EXITS",
        })?;
        for (name, calls) in EXITS {
            let program = self.programs.single(name)?;
            for call in *calls {
                raw::set_program(exits, *call as u32, program)
                    .map_err(|why| KernelError::load(name, &why))?;
            }
        }
        Ok(())
    }

    fn load_raw(&mut self, tracepoints: &[RawTracepoint]) -> Result<(), KernelError> {
        for tracepoint in tracepoints {
            self.programs
                .load(&mut self.ebpf, tracepoint.0, Kind::Raw)?;
        }
        Ok(())
    }

    /// Attaches the tracepoints of processes, once for all targets. Failures are returned as limitations.
    pub fn attach_tracepoints(&mut self) -> Vec<String> {
        let (mut links, mut limitations) = self.attach_raw(&PROCESSES);
        match self.attach_events(&[FORK]) {
            Ok(fork) => links.extend(fork),
            Err(why) => limitations.push(format!("forks are not seen: {why}")),
        }
        self.tracepoints = links;
        limitations
    }

    /// Attaches the tracepoints of system calls. Failures are returned as limitations.
    pub fn attach_calls(&mut self) -> Result<Vec<String>, KernelError> {
        self.load_calls()?;
        let mut raws = vec![RAW_EXIT];
        let mut links = self.attach_events(&ENTERS).unwrap_or_else(|why| {
            debug!(
                "the entries of all system calls are traced, because single ones cannot be: \
                 {why}"
            );
            raws.push(RAW_ENTER);
            Vec::new()
        });
        let (raws, limitations) = self.attach_raw(&raws);
        links.extend(raws);
        self.calls = links;
        Ok(limitations)
    }

    /// Whether tracepoints of system calls are attached.
    pub fn traces_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Takes the links of [`Kernel::attach_calls`], to be dropped elsewhere, because that takes time.
    pub fn take_calls(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.calls)
    }

    /// The attached ones, and the limitations of the others.
    fn attach_raw(&self, tracepoints: &[RawTracepoint]) -> (Vec<Link>, Vec<String>) {
        let (mut links, mut limitations) = (Vec::new(), Vec::new());
        for (program, tracepoint, seen) in tracepoints {
            let attached = self
                .programs
                .single(program)
                .map_err(io::Error::other)
                .and_then(|program| raw::open_raw_tracepoint(program, tracepoint));
            match attached {
                Ok(link) => links.push(link.into()),
                Err(why) => limitations.push(format!("{seen} are not seen: {why}")),
            }
        }
        (links, limitations)
    }

    /// All of them, or none.
    fn attach_events(&self, events: &[Event]) -> io::Result<Vec<Link>> {
        let names: Vec<(&str, &str)> = events.iter().map(|event| (event.1, event.2)).collect();
        let found = tracefs::events(&names)?;
        let each = events.iter().zip(found).map(|(event, found)| {
            let program = self.programs.single(event.0).map_err(io::Error::other)?;
            let found = found?;
            attach::tracepoint(program, found.id, found.child_pid_offset)
        });
        each.collect()
    }
}
