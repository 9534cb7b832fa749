//! Ids and formats of trace events, from tracefs.
//!
//! If tracefs is not mounted, it is mounted during the read in the mount namespace of one thread.
//! The host is not changed.

use std::{collections::HashMap, ffi::CStr, fs, io, path::Path, sync::OnceLock, thread};

use super::events::{ENTERS, FORK};

/// A trace event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its id for `perf_event_open`.
    pub id: u64,
    /// Offset of the field `child_pid`, 0 if it has none.
    pub child_pid_offset: u64,
}

/// Usual mount points of tracefs.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The mount point of tracefs, if it is mounted.
pub fn tracefs_mounted() -> Option<&'static str> {
    MOUNTED
        .into_iter()
        .find(|path| Path::new(path).join("events").is_dir())
}

/// Whether trace events can be looked up, by a private mount if necessary.
pub fn tracefs_readable() -> io::Result<()> {
    events(&[("syscalls", "sys_exit_read")])?
        .into_iter()
        .try_for_each(|event| event.map(drop))
}

/// Events looked up before the capability to mount tracefs was dropped.
static FOUND: OnceLock<HashMap<(&str, &str), Event>> = OnceLock::new();

/// Looks up all needed events if tracefs is not mounted, because mounting needs a capability. Events that are not found
/// are looked up again later.
pub fn look_up_events() {
    if tracefs_mounted().is_some() {
        return;
    }
    let wanted = ENTERS.iter().chain([&FORK]);
    let wanted: Vec<_> = wanted.map(|event| (event.1, event.2)).collect();
    let Ok(found) = events(&wanted) else { return };
    let found = wanted.into_iter().zip(found);
    let found = found.filter_map(|(name, event)| Some((name, event.ok()?)));
    // Set once; a second call would find the same.
    let _ = FOUND.set(found.collect());
}

/// Looks up events; the outer error means that tracefs cannot be read at all.
pub(super) fn events(wanted: &[(&str, &str)]) -> io::Result<Vec<io::Result<Event>>> {
    if let Some(found) = FOUND.get()
        && wanted.iter().all(|name| found.contains_key(name))
    {
        return Ok(wanted
            .iter()
            .filter_map(|name| found.get(name))
            .map(|event| Ok(*event))
            .collect());
    }
    if let Some(mounted) = tracefs_mounted() {
        return Ok(read_all(Path::new(mounted), wanted));
    }
    thread::scope(|scope| {
        scope
            .spawn(|| {
                mount_privately()?;
                Ok(read_all(Path::new("/sys/kernel/tracing"), wanted))
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts tracefs died")))
    })
}

fn read_all(root: &Path, wanted: &[(&str, &str)]) -> Vec<io::Result<Event>> {
    wanted
        .iter()
        .map(|(category, event)| {
            let folder = root.join("events").join(category).join(event);
            let id = fs::read_to_string(folder.join("id"))?
                .trim()
                .parse()
                .map_err(|_| io::Error::other("the event's id is not a number"))?;
            let format = fs::read_to_string(folder.join("format")).unwrap_or_default();
            Ok(Event {
                id,
                child_pid_offset: offset_of(&format, "child_pid"),
            })
        })
        .collect()
}

/// Offset of a field in an event's format description.
fn offset_of(format: &str, field: &str) -> u64 {
    format
        .lines()
        .filter(|line| {
            line.split(';')
                .next()
                .is_some_and(|name| name.ends_with(&format!(" {field}")))
        })
        .find_map(|line| {
            line.split("offset:")
                .nth(1)?
                .split(';')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

fn mount_privately() -> io::Result<()> {
    const ROOT: &CStr = c"/";
    const TRACEFS: &CStr = c"tracefs";
    const WHERE: &CStr = c"/sys/kernel/tracing";
    let refused = |what: &str| {
        let why = io::Error::last_os_error();
        io::Error::new(
            why.kind(),
            format!(
                "tracefs is not mounted and {what} failed: {why}; mount it with `mount -t tracefs tracefs /sys/kernel/tracing`"
            ),
        )
    };
    // SAFETY: affects only this thread, which ends after the read.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(refused("a private mount namespace"));
    }
    let slave = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: all strings are static and terminated; null for arguments that the kernel ignores.
    let slaved = unsafe {
        libc::mount(
            std::ptr::null(),
            ROOT.as_ptr(),
            std::ptr::null(),
            slave,
            std::ptr::null(),
        )
    };
    if slaved != 0 {
        return Err(refused("making its mounts private"));
    }
    // SAFETY: as above.
    let mounted = unsafe {
        libc::mount(
            TRACEFS.as_ptr(),
            WHERE.as_ptr(),
            TRACEFS.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if mounted != 0 {
        return Err(refused("mounting it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::offset_of;

    #[test]
    fn offsets_are_read_from_both_layouts() {
        let new = "\tfield:__data_loc char[] child_comm;\toffset:16;\tsize:4;\tsigned:0;\n\tfield:pid_t child_pid;\toffset:20;\tsize:4;\tsigned:1;\n";
        let old = "\tfield:char child_comm[16];\toffset:28;\tsize:16;\tsigned:0;\n\tfield:pid_t child_pid;\toffset:44;\tsize:4;\tsigned:1;\n";
        assert_eq!(offset_of(new, "child_pid"), 20);
        assert_eq!(offset_of(old, "child_pid"), 44);
        assert_eq!(offset_of(old, "ret"), 0);
    }
}
