//! `bpf(2)` calls that aya lacks: links with cookies, programs for multi-links.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya::maps::Map;

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_LINK_CREATE: libc::c_int = 28;
/// `enum bpf_attach_type`.
const BPF_PERF_EVENT: u32 = 41;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_TRACE_UPROBE_SESSION: u32 = 57;
/// `BPF_PROG_TYPE_KPROBE`, also for uprobes.
const TYPE_KPROBE: u32 = 2;
/// `BPF_F_UPROBE_MULTI_RETURN`.
const MULTI_RETURN: u32 = 1;

/// A record of the wire contract in the form that aya needs.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub T);

// SAFETY: transparent over a type of plain integers without padding (`bytemuck::Pod`).
unsafe impl<T: bytemuck::Pod> aya::Pod for Wire<T> {}

pub(super) fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the attribute of that command, valid and writable for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// Attaches a program to a perf event (Linux 5.15).
pub(super) fn create_perf_link(program: RawFd, event: RawFd, cookie: u64) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        program: program as u32,
        target: event as u32,
        attach_type: BPF_PERF_EVENT,
        flags: 0,
        cookie,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    zero: u32,
}

/// Attaches a program to a raw tracepoint (Linux 4.17).
pub(super) fn open_raw_tracepoint(program: RawFd, name: &CStr) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointOpen {
        name: name.as_ptr() as u64,
        program: program as u32,
        zero: 0,
    };
    let fd = bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[repr(C)]
struct MultiLinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    link_flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    flags: u32,
    pid: i32,
    zero: u32,
}

/// Where a program for multi-links runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// At the instruction.
    Entry,
    /// At the return of the function of the instruction.
    Return,
    /// At both (Linux 6.13); at the entry it returns whether to trap the return.
    Session,
}

impl Runs {
    fn attach_type(self) -> u32 {
        match self {
            Self::Entry | Self::Return => BPF_TRACE_UPROBE_MULTI,
            Self::Session => BPF_TRACE_UPROBE_SESSION,
        }
    }
}

/// Positions in a file, with equally long lists.
pub(super) struct Places<'a> {
    pub(super) offsets: &'a [u64],
    pub(super) cookies: &'a [u64],
    /// File offsets of semaphores, 0 for none.
    pub(super) semaphores: &'a [u64],
}

impl Places<'_> {
    fn count(&self) -> usize {
        let others = self.cookies.len().min(self.semaphores.len());
        self.offsets.len().min(others)
    }
}

/// Attaches a program to offsets of a file by one link (Linux 6.6). Pid 0 means all processes.
pub(super) fn create_multi_link(
    program: BorrowedFd<'_>,
    path: &CStr,
    places: &Places<'_>,
    pid: libc::pid_t,
    runs: Runs,
) -> io::Result<OwnedFd> {
    let mut attr = MultiLinkCreate {
        program: program.as_raw_fd() as u32,
        target: 0,
        attach_type: runs.attach_type(),
        link_flags: 0,
        path: path.as_ptr() as u64,
        offsets: places.offsets.as_ptr() as u64,
        reference_counters: places.semaphores.as_ptr() as u64,
        cookies: places.cookies.as_ptr() as u64,
        count: places.count() as u32,
        flags: if runs == Runs::Return {
            MULTI_RETURN
        } else {
            0
        },
        pid,
        zero: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `bpf_attr` of `BPF_PROG_LOAD` up to `func_info_cnt`.
#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    btf: u32,
    function_bytes: u32,
    functions: u64,
    function_count: u32,
    reserved: u32,
}

/// Function information for the verifier, required for callback functions.
#[derive(Clone, Copy)]
pub(super) struct Functions<'a> {
    /// The object's BTF.
    pub(super) btf: BorrowedFd<'a>,
    /// Consecutive `struct bpf_func_info`.
    pub(super) infos: &'a [u8],
}

/// `sizeof(struct bpf_func_info)`.
const FUNC_INFO: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct BtfLoad {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    reserved: u32,
}

/// Loads BTF.
pub(super) fn load_btf(types: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = BtfLoad {
        types: types.as_ptr() as u64,
        size: types.len() as u32,
        ..BtfLoad::default()
    };
    let fd = bpf(BPF_BTF_LOAD, &mut attr)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Loads a uprobe program for multi-links. The verifier's output goes to `log`, unless that is empty.
pub(super) fn load_uprobe_multi(
    name: &CStr,
    license: &CStr,
    code: &[u64],
    runs: Runs,
    functions: Option<Functions<'_>>,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let infos = functions.map_or(&[][..], |functions| functions.infos);
    let mut attr = ProgLoad {
        kind: TYPE_KPROBE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        expected_attach_type: runs.attach_type(),
        btf: functions.map_or(0, |functions| functions.btf.as_raw_fd() as u32),
        function_bytes: if infos.is_empty() {
            0
        } else {
            FUNC_INFO as u32
        },
        functions: infos.as_ptr() as u64,
        function_count: (infos.len() / FUNC_INFO) as u32,
        reserved: 0,
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.to_bytes()) {
        *to = *from;
    }
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The attribute of operations on one map element.
#[repr(C)]
pub(super) struct ElementAttr {
    pub(super) map: u64,
    pub(super) key: u64,
    /// Or the address for the next key.
    pub(super) value: u64,
    pub(super) flags: u64,
}

/// Sets an entry of a program array.
pub(super) fn set_program(map: BorrowedFd<'_>, index: u32, program: RawFd) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u64,
        key: &raw const index as u64,
        value: &raw const program as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Descriptor of a map of one of the kinds used here.
pub(super) fn map_fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

/// Kernel memory of maps, from their `fdinfo`.
pub(super) fn bytes_of(maps: &[RawFd]) -> u64 {
    let bytes = |fd: &RawFd| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
    };
    maps.iter().filter_map(bytes).sum()
}
