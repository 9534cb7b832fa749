//! Attaches without aya: `perf_event_open` and `BPF_LINK_CREATE`. Uprobes use this on kernels without
//! multi-links.
//!
//! aya opens its perf events enabled, and an enabled event of a process costs time at each of its
//! context switches. A disabled event whose program is attached by a BPF link still runs the program
//! (measured: 100,001 of 100,001 hits) at a third of that cost.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::OnceLock,
};

use super::raw;
use heaptide_process::plan::Probe;

/// An attached program: dropping it detaches.
#[derive(Debug)]
pub struct Link {
    _link: OwnedFd,
    _event: Option<OwnedFd>,
}

impl From<OwnedFd> for Link {
    fn from(link: OwnedFd) -> Self {
        Self {
            _link: link,
            _event: None,
        }
    }
}

/// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER1` (`include/uapi/linux/perf_event.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 72);

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 8;
/// `perf_event_attr.disabled`.
const DISABLED: u64 = 1;
/// `PERF_TYPE_SOFTWARE` and its event without counts, `PERF_COUNT_SW_DUMMY`.
const TYPE_SOFTWARE: u32 = 1;
const DUMMY: u64 = 9;
/// `PERF_TYPE_TRACEPOINT`.
const TYPE_TRACEPOINT: u32 = 2;

/// `ref_ctr_offset` of the uprobe PMU: `config:32-63`.
const SEMAPHORE_SHIFT: u32 = 32;

/// Attaches a program to a probe's position in one process, or in all if `pid` is 0.
pub fn uprobe(program: RawFd, pid: u32, probe: &Probe, returns: bool) -> io::Result<Link> {
    let pmu = uprobe_pmu()?;
    let path = CString::new(probe.path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))?;
    let attr = PerfEventAttr {
        kind: pmu.kind,
        size: size_of::<PerfEventAttr>() as u32,
        config: u64::from(returns) << pmu.return_bit | probe.semaphore << SEMAPHORE_SHIFT,
        flags: DISABLED,
        config1: path.as_ptr() as u64,
        config2: probe.file_offset,
        ..PerfEventAttr::default()
    };
    let (task, cpu) = if pid == 0 {
        (-1, 0)
    } else {
        (pid as libc::pid_t, -1)
    };
    let event = perf_event_open(&attr, task, cpu)?;
    let link = raw::create_perf_link(program, event.as_raw_fd(), probe.cookie)?;
    Ok(Link {
        _link: link,
        _event: Some(event),
    })
}

/// Attaches a program to a trace event, for every process.
pub fn tracepoint(program: RawFd, id: u64, cookie: u64) -> io::Result<Link> {
    let attr = PerfEventAttr {
        kind: TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        ..PerfEventAttr::default()
    };
    let event = perf_event_open(&attr, -1, 0)?;
    let link = raw::create_perf_link(program, event.as_raw_fd(), cookie)?;
    Ok(Link {
        _link: link,
        _event: Some(event),
    })
}

/// Whether perf events are denied to this process. Debian and Ubuntu require `CAP_SYS_ADMIN` if
/// `perf_event_paranoid` is above 2, regardless of other capabilities.
pub fn perf_events_refused() -> bool {
    let attr = PerfEventAttr {
        kind: TYPE_SOFTWARE,
        size: size_of::<PerfEventAttr>() as u32,
        config: DUMMY,
        flags: DISABLED,
        ..PerfEventAttr::default()
    };
    let refused = |why: &io::Error| why.kind() == io::ErrorKind::PermissionDenied;
    perf_event_open(&attr, -1, 0).is_err_and(|why| refused(&why))
}

/// Whether perf events of uprobes are. Since 2025 they take `CAP_SYS_ADMIN`, on older kernels with that fix as well;
/// multi-links do not.
pub(super) fn perf_uprobes_refused() -> bool {
    // The kernel looks at the rights before it looks for the file.
    const NOWHERE: &CStr = c"/nonexistent";
    let Ok(pmu) = uprobe_pmu() else { return false };
    let attr = PerfEventAttr {
        kind: pmu.kind,
        size: size_of::<PerfEventAttr>() as u32,
        flags: DISABLED,
        config1: NOWHERE.as_ptr() as u64,
        ..PerfEventAttr::default()
    };
    let refused = |why: &io::Error| why.kind() == io::ErrorKind::PermissionDenied;
    perf_event_open(&attr, -1, 0).is_err_and(|why| refused(&why))
}

fn perf_event_open(attr: &PerfEventAttr, pid: libc::pid_t, cpu: i32) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is valid for the call and contains its own size.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attr),
            pid,
            cpu,
            -1,
            CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

struct UprobePmu {
    kind: u32,
    return_bit: u32,
}

/// The uprobe PMU, from sysfs.
fn uprobe_pmu() -> io::Result<&'static UprobePmu> {
    static PMU: OnceLock<Option<UprobePmu>> = OnceLock::new();
    PMU.get_or_init(|| {
        let folder = Path::new("/sys/bus/event_source/devices/uprobe");
        let kind = fs::read_to_string(folder.join("type"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let format = fs::read_to_string(folder.join("format/retprobe")).ok()?;
        let return_bit = format.trim().strip_prefix("config:")?.parse().ok()?;
        Some(UprobePmu { kind, return_bit })
    })
    .as_ref()
    .ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel has no uprobe PMU (CONFIG_UPROBE_EVENTS; sysfs must be mounted)",
        )
    })
}
