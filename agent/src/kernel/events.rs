//! Names of tracepoints and of their programs.

use std::ffi::CStr;

/// A trace event attached by a perf event: program, category, event.
pub(super) type Event = (&'static str, &'static str, &'static str);

/// A perf event, because of the field `child_pid`.
pub(super) const FORK: Event = ("process_fork", "sched", "sched_process_fork");

/// Perf events, because the kernel itself compares the call number.
pub(super) const ENTERS: [Event; 2] = [
    ("enter_close", "syscalls", "sys_enter_close"),
    ("enter_munmap", "syscalls", "sys_enter_munmap"),
];

/// A raw tracepoint: program, tracepoint, what is not seen without it.
pub(super) type RawTracepoint = (&'static str, &'static CStr, &'static str);

/// Replaces [`ENTERS`] if tracefs cannot be read.
pub(super) const RAW_ENTER: RawTracepoint =
    ("sys_enter", c"sys_enter", "closed connections and mappings");

pub(super) const RAW_EXIT: RawTracepoint = ("sys_exit", c"sys_exit", "requests and mappings");

pub(super) const PROCESSES: [RawTracepoint; 4] = [
    ("page_fault_user", c"page_fault_user", "page faults"),
    (
        "page_fault_kernel",
        c"page_fault_kernel",
        "page faults in system calls",
    ),
    ("process_exec", c"sched_process_exec", "execs"),
    ("process_exit", c"sched_process_exit", "ends of processes"),
];

/// The programs for events.
pub(super) fn of_events() -> impl Iterator<Item = &'static str> {
    ENTERS.into_iter().chain([FORK]).map(|event| event.0)
}

/// The programs for raw tracepoints.
pub(super) fn of_raw() -> impl Iterator<Item = &'static str> {
    let calls = [RAW_EXIT, RAW_ENTER];
    PROCESSES.into_iter().chain(calls).map(|raw| raw.0)
}
