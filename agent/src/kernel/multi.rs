//! Uprobe multi-links (Linux 6.6): one link for many probes of one program in one file.
//!
//! Detaching a perf event and its link takes a grace period of a tenth of a second *each*, and the event
//! costs the process time at context switches. A multi-link has no event and one grace period. aya cannot
//! load programs for multi-links (they are marked at load), so this file does it, with the same object and
//! the maps that aya created.
//!
//! A session (Linux 6.13) is a multi-link whose program runs at entries and returns and traps only the
//! returns that it requests. This halves the consumers, and calls that are sampled out do not trap at
//! their return.

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

/// Tests set it to `perf` or `multi` to use the methods of older kernels.
const SWITCH: &str = "HEAPTIDE_UPROBES";

/// The kernel's support for many uprobes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Support {
    /// None: one perf event each.
    Perf,
    /// Multi-links that filter by process.
    Multi,
    /// Sessions too: entry and return have one program.
    Session,
}

/// The kernel's support, or what the environment requests.
///
/// The first multi-links (6.6 to 6.9, later corrected) filtered by thread. Their response to a negative
/// pid identifies them: the corrected ones return EINVAL before they look at the file.
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
    // A folder cannot be probed; a kernel without support returns another error earlier.
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

/// The parsed uprobe programs of an object.
pub(super) struct Programs {
    object: Object,
    /// Its BTF, if the kernel accepts it.
    types: Option<OwnedFd>,
}

impl Programs {
    /// Parses `object` and binds it to its existing maps.
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

    /// Loads a program. Whether it runs at entries or returns is set when it is attached.
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
        // Again with the verifier's log, which is slow and not needed otherwise.
        let mut log = vec![0; 1 << 20];
        raw::load_uprobe_multi(&title, license, &code, runs, functions, &mut log).map_err(|_| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            KernelError::refused(name, &first, &String::from_utf8_lossy(&log[..end]))
        })
    }
}

/// An instruction in the kernel's encoding.
fn word(instruction: bpf_insn) -> u64 {
    let registers = instruction.dst_reg() | instruction.src_reg() << 4;
    u64::from(instruction.code)
        | u64::from(registers) << 8
        | u64::from(instruction.off as u16) << 16
        | u64::from(instruction.imm as u32) << 32
}

/// Attaches a program to many positions of a file in one process (all its threads).
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
