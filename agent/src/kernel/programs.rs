//! Loads the kernel programs.

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
    multi::{self, Support},
    raw::{self, Runs},
};

/// The compiled kernel programs.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/heaptide-ebpf"));

/// Loaded programs by name.
pub(super) struct Programs {
    descriptors: Table<&'static str, RawFd>,
    /// Those loaded without aya: uprobes for multi-links.
    own: Table<&'static str, OwnedFd>,
    /// Entries and returns of allocators are sessions.
    sessions: bool,
}

impl Programs {
    /// Loads the uprobe programs, for multi-links if the kernel has them, and the tracepoint
    /// programs of both kinds. With sessions, `session` includes `returns`.
    pub(super) fn load(
        ebpf: &mut Ebpf,
        session: &'static str,
        returns: &'static str,
        uprobes: impl Iterator<Item = &'static str>,
        tracepoints: impl Iterator<Item = &'static str>,
        raw_tracepoints: impl Iterator<Item = &'static str>,
    ) -> Result<Self, KernelError> {
        let mut programs = Self {
            descriptors: Table::new(),
            own: Table::new(),
            sessions: false,
        };
        let support = multi::support();
        if support > Support::Perf {
            let maps: Table<String, BorrowedFd<'_>> = ebpf
                .maps()
                .filter_map(|(name, map)| Some((name.to_owned(), raw::map_fd(map)?)))
                .collect();
            let object = multi::Programs::new(OBJECT, &maps)?;
            programs.sessions = support == Support::Session;
            if programs.sessions {
                let loaded = object.load(session, Runs::Session)?;
                programs.own.insert(session, loaded);
            }
            for name in uprobes {
                if !programs.sessions || name != returns {
                    programs.own.insert(name, object.load(name, Runs::Entry)?);
                }
            }
        } else {
            for name in uprobes {
                let program: &mut UProbe = program(ebpf, name)?;
                let loaded = program.load();
                programs.note(name, loaded, program.fd())?;
            }
        }
        for name in tracepoints {
            let program: &mut TracePoint = program(ebpf, name)?;
            let loaded = program.load();
            programs.note(name, loaded, program.fd())?;
        }
        for name in raw_tracepoints {
            let program: &mut RawTracePoint = program(ebpf, name)?;
            let loaded = program.load();
            programs.note(name, loaded, program.fd())?;
        }
        Ok(programs)
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

    /// Any other program.
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
