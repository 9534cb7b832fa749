//! Tracepoints of processes and page faults, which are always attached, and of system calls.
//!
//! The latter cost every system call of the host, so they are attached only while a target needs them.

use std::io;

use tracing::debug;

use super::{
    Kernel, Link, attach,
    events::{ENTERS, Event, FORK, PROCESSES, RAW_ENTER, RAW_EXIT, RawTracepoint},
    raw, tracefs,
};

impl Kernel {
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
    pub fn attach_calls(&mut self) -> Vec<String> {
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
        limitations
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
