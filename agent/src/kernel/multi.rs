//! Uprobe multi-links (Linux 6.6): many probes of one program in one file are one link.
//!
//! A perf event and its link cost the kernel a grace period of a tenth of a second *each* when they
//! are taken off, and the event costs the process at context switches. A multi-link has no event
//! and one grace period. aya cannot load programs for them (they are marked at their load), so that
//! is done here: the same object, with the maps that aya has made.
//!
//! A session (Linux 6.13) is a multi-link whose program runs at entries and returns, and that traps
//! only the returns it wants: half the consumers, and what is sampled out does not return into the kernel.

use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::{Object, generated::bpf_insn};
use tracing::debug;

use super::{
    error::KernelError,
    raw::{self, Runs},
};
use heaptide_process::plan::Probe;

/// Tests of the ways of older kernels set it to `perf` or `multi`.
const SWITCH: &str = "HEAPTIDE_UPROBES";

/// What the kernel has for many uprobes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Support {
    /// Nothing: a perf event for each.
    Perf,
    /// Multi-links that filter by process.
    Multi,
    /// Sessions as well: entry and return are one program.
    Session,
}

/// What the kernel has, or what the environment says it shall be taken for.
///
/// The first multi-links (6.6 to 6.9, later corrected) filtered by thread. They are told by what they
/// say of a negative pid: EINVAL came with the correction, before it the file is looked at first.
pub(super) fn support() -> Support {
    let most = match std::env::var_os(SWITCH) {
        Some(way) if way == "perf" => Support::Perf,
        Some(way) if way == "multi" => Support::Multi,
        _ => Support::Session,
    };
    let refused_with = |pid, runs| {
        // r0 = 0; exit
        let nothing = [0xb7u64, 0x95];
        let program = raw::load_uprobe_multi(c"probe", c"GPL", &nothing, runs, None, &mut [])?;
        let places = raw::Places {
            offsets: &[0],
            cookies: &[0],
            semaphores: &[0],
        };
        raw::create_multi_link(program.as_fd(), c"/", &places, pid, runs)
    };
    let code = |pid, runs| {
        refused_with(pid, runs)
            .err()
            .and_then(|why: io::Error| why.raw_os_error())
    };
    // A folder is no file to probe; what does not get that far is not known to the kernel.
    let has = |runs| code(0, runs) == Some(libc::EBADF);
    let found = if most == Support::Perf
        || !has(Runs::Entry)
        || code(-1, Runs::Entry) != Some(libc::EINVAL)
    {
        Support::Perf
    } else if has(Runs::Session) {
        Support::Session
    } else {
        Support::Multi
    };
    debug!(?found, ?most, "uprobe multi-links that filter by process");
    found.min(most)
}

/// The uprobe programs of an object, ready to be loaded.
pub(super) struct Programs {
    object: Object,
    /// Its types, where the kernel takes them.
    types: Option<OwnedFd>,
}

impl Programs {
    /// Parses `object` and binds it to the maps that were made for it.
    pub(super) fn new(
        object: &[u8],
        maps: &HashMap<String, BorrowedFd<'_>>,
    ) -> Result<Self, KernelError> {
        let refused = |why: &dyn std::error::Error| KernelError::load("the object", why);
        let mut object = Object::parse(object).map_err(|why| refused(&why))?;
        let sections = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let declared = std::mem::take(&mut object.maps);
        let bound = declared
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), maps.get(name)?.as_raw_fd(), map)));
        object
            .relocate_maps(bound, &sections)
            .map_err(|why| refused(&why))?;
        object
            .relocate_calls(&sections)
            .map_err(|why| refused(&why))?;
        let types = match aya::features().btf() {
            Some(features) => object
                .fixup_and_sanitize_btf(features)
                .map_err(|why| refused(&why))?
                .map(|types| raw::load_btf(&types.to_bytes()))
                .transpose()
                .map_err(|why| refused(&why))?,
            None => None,
        };
        Ok(Self { object, types })
    }

    /// Loads one of them. Whether it is for entries or returns is said only when it is attached.
    pub(super) fn load(&self, name: &'static str, runs: Runs) -> Result<OwnedFd, KernelError> {
        let absent = KernelError::Object {
            what: "program",
            name,
        };
        let Some(program) = self.object.programs.get(name) else {
            return Err(absent);
        };
        let key = (program.section_index, program.address);
        let Some(function) = self.object.functions.get(&key) else {
            return Err(absent);
        };
        let code: Vec<u64> = function.instructions.iter().copied().map(word).collect();
        let title = CString::new(name).unwrap_or_default();
        let infos = function.func_info.func_info_bytes();
        let functions = self.types.as_ref().map(|types| raw::Functions {
            btf: types.as_fd(),
            infos: &infos,
        });
        let license = &program.license;
        let first = match raw::load_uprobe_multi(&title, license, &code, runs, functions, &mut []) {
            Ok(loaded) => return Ok(loaded),
            Err(why) => why,
        };
        // Once more for the verifier's reason; a log that is not needed slows every load down.
        let mut log = vec![0; 1 << 20];
        raw::load_uprobe_multi(&title, license, &code, runs, functions, &mut log).map_err(|_| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            KernelError::refused(name, &first, &String::from_utf8_lossy(&log[..end]))
        })
    }
}

/// An instruction as the kernel reads it.
fn word(instruction: bpf_insn) -> u64 {
    let registers = instruction.dst_reg() | instruction.src_reg() << 4;
    u64::from(instruction.code)
        | u64::from(registers) << 8
        | u64::from(instruction.off as u16) << 16
        | u64::from(instruction.imm as u32) << 32
}

/// Attaches a program to many places of a file in one process (all its threads).
pub(super) fn attach(
    program: BorrowedFd<'_>,
    pid: u32,
    path: &Path,
    probes: &[&Probe],
    runs: Runs,
) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))?;
    let all = |of: fn(&Probe) -> u64| probes.iter().map(|probe| of(probe)).collect::<Vec<_>>();
    let places = raw::Places {
        offsets: &all(|probe| probe.file_offset),
        cookies: &all(|probe| probe.cookie),
        semaphores: &all(|probe| probe.semaphore),
    };
    raw::create_multi_link(program, &path, &places, pid as libc::pid_t, runs)
}
