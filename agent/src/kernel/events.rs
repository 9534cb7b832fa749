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
    ("page_fault", c"page_fault_user", "page faults"),
    (
        "page_fault",
        c"page_fault_kernel",
        "page faults in system calls",
    ),
    ("process_exec", c"sched_process_exec", "execs"),
    ("process_exit", c"sched_process_exit", "ends of processes"),
];

/// Programs called by `sys_exit`, with their system calls.
pub(super) const EXITS: &[(&str, &[libc::c_long])] = &[
    (
        "exit_read",
        &[
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
        ],
    ),
    (
        "exit_write",
        &[
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendfile,
        ],
    ),
    ("exit_accept", &[libc::SYS_accept, libc::SYS_accept4]),
    (
        "exit_wait",
        &[
            libc::SYS_epoll_wait,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_poll,
            libc::SYS_ppoll,
            libc::SYS_select,
            libc::SYS_pselect6,
            libc::SYS_futex,
            libc::SYS_io_uring_enter,
        ],
    ),
    (
        "exit_map",
        &[libc::SYS_mmap, libc::SYS_mremap, libc::SYS_brk],
    ),
];
