//! Loads the kernel programs on first use, because the verifier takes time for each.
//!
//! The maps were created with the object and live as long as the programs: later programs refer to them by
//! descriptor.

use std::{
    collections::HashMap as Table,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use aya::{
    Ebpf,
    programs::{ProgramError, ProgramFd, RawTracePoint, TracePoint, UProbe},
};

use super::{
    KernelError,
    error::check_capabilities,
    multi::{self, Support},
    raw::{self, Runs},
};

/// The compiled kernel programs.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/heaptide-ebpf"));

/// The attach type of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Probes of a plan.
    Uprobe,
    /// Entries and returns of functions (see [`Runs::Session`]).
    Session,
    /// Trace events.
    Event,
    /// Raw tracepoints, and programs called by them.
    Raw,
}

/// Programs by name.
pub(super) struct Programs {
    descriptors: Table<&'static str, RawFd>,
    /// Those loaded without aya: uprobes for multi-links.
    own: Table<&'static str, OwnedFd>,
    /// The source of those programs, if the kernel has multi-links.
    object: Option<multi::Programs>,
    /// Entries and returns of allocators are sessions.
    sessions: bool,
}

impl Programs {
    /// Checks the kernel's support for uprobes, without loading a program.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self, KernelError> {
        let support = multi::support();
        let mut object = None;
        if support > Support::Perf {
            let maps: Table<String, BorrowedFd<'_>> = ebpf
                .maps()
                .filter_map(|(name, map)| Some((name.to_owned(), raw::map_fd(map)?)))
                .collect();
            object = Some(multi::Programs::new(OBJECT, &maps)?);
        }
        Ok(Self {
            descriptors: Table::new(),
            own: Table::new(),
            object,
            sessions: support == Support::Session,
        })
    }

    /// Loads a program unless it is loaded. `ebpf` must be the one of `new`.
    pub(super) fn load(
        &mut self,
        ebpf: &mut Ebpf,
        name: &'static str,
        kind: Kind,
    ) -> Result<(), KernelError> {
        if self.descriptor(name).is_some() {
            return Ok(());
        }
        let loaded = self.load_one(ebpf, name, kind);
        // The agent may have fewer capabilities than at its start.
        loaded.map_err(|why| check_capabilities().err().unwrap_or(why))
    }

    fn load_one(
        &mut self,
        ebpf: &mut Ebpf,
        name: &'static str,
        kind: Kind,
    ) -> Result<(), KernelError> {
        match (kind, &self.object) {
            (Kind::Uprobe | Kind::Session, Some(object)) => {
                let runs = match kind {
                    Kind::Session => Runs::Session,
                    _ => Runs::Entry,
                };
                self.own.insert(name, object.load(name, runs)?);
                Ok(())
            }
            (Kind::Uprobe | Kind::Session, None) => {
                let program: &mut UProbe = program(ebpf, name)?;
                let loaded = program.load();
                self.note(name, loaded, program.fd())
            }
            (Kind::Event, _) => {
                let program: &mut TracePoint = program(ebpf, name)?;
                let loaded = program.load();
                self.note(name, loaded, program.fd())
            }
            (Kind::Raw, _) => {
                let program: &mut RawTracePoint = program(ebpf, name)?;
                let loaded = program.load();
                self.note(name, loaded, program.fd())
            }
        }
    }

    fn note(
        &mut self,
        name: &'static str,
        loaded: Result<(), ProgramError>,
        descriptor: Result<&ProgramFd, ProgramError>,
    ) -> Result<(), KernelError> {
        loaded.map_err(|why| KernelError::load(name, &why))?;
        let fd = descriptor.map_err(|why| KernelError::load(name, &why))?;
        self.descriptors.insert(name, fd.as_fd().as_raw_fd());
        Ok(())
    }

    /// The program for multi-links of that name, if those are used.
    pub(super) fn multi(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.own.get(name).map(OwnedFd::as_fd)
    }

    /// The descriptor of a program, if it is loaded.
    pub(super) fn descriptor(&self, name: &str) -> Option<RawFd> {
        let own = self.own.get(name).map(OwnedFd::as_raw_fd);
        own.or_else(|| self.descriptors.get(name).copied())
    }

    /// Whether entries and returns of allocators have one program.
    pub(super) fn sessions(&self) -> bool {
        self.sessions
    }

    /// Any other loaded program.
    pub(super) fn single(&self, name: &'static str) -> Result<RawFd, KernelError> {
        let what = "program";
        let found = self.descriptors.get(name).copied();
        found.ok_or(KernelError::Object { what, name })
    }
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(KernelError::Object {
            what: "program",
            name,
        })?
        .try_into()
        .map_err(|why| KernelError::load(name, &why))
}
