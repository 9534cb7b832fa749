//! System-call tracepoints: reads, writes, connections and mappings of targets.
//!
//! All but close and munmap are handled at their exit only. The arguments are still in the saved user registers then,
//! and one hook costs less than two. close and munmap are handled at their entry, because another thread can get the
//! descriptor or the address range before they return.
//!
//! The exits share one raw tracepoint on every system call of the host: one link in place of fourteen perf events,
//! each of which takes the kernel a tenth of a second to detach. Any other system call pays for one comparison of its
//! number. The two entries are perf events, because for those the kernel itself compares the number, at a fifth of
//! the cost. Without tracefs they use a raw tracepoint too.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_NO_WAKEUP, pt_regs},
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user,
        generated,
    },
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use heaptide_ebpf::{Counter, TargetConfig, VmRecord, kind, target_flags, vm};

use crate::{
    answer, http,
    maps::{EVENTS, EXITS, Thread, count, count_in},
    probe::register,
    reading::{self, Bytes},
    request,
    stack::{self, Start},
    thread,
};

// x86-64 system-call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
const CLOSE: u64 = 3;
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const READV: u64 = 19;
const WRITEV: u64 = 20;
const MREMAP: u64 = 25;
const SENDFILE: u64 = 40;
const RECVFROM: u64 = 45;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const FUTEX: u64 = 202;

// Operations of futex that wait (include/uapi/linux/futex.h), without their flags.
const FUTEX_WAIT: u64 = 0;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_COMMANDS: u64 = 0x7f;

const MSG_PEEK: u64 = 2;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;

/// The current thread and the configuration of its process, when that is a target with `flag`.
#[inline(always)]
fn configured(flag: u32) -> Option<(&'static TargetConfig, &'static mut Thread)> {
    let config = thread::target()?;
    if config.flags & flag == 0 {
        return None;
    }
    count_in(config.slot, Counter::Syscalls);
    Some((config, thread::current()?))
}

/// The current thread, when its process is a target with `flag`.
#[inline(always)]
fn watched(flag: u32) -> Option<&'static mut Thread> {
    configured(flag).map(|(_, thread)| thread)
}

/// The registers with which user space entered the system call. Not copied: Linux 6.1 limits the sum of the stacks of
/// all callers, which is nearly used up.
#[inline(always)]
fn user_regs() -> *const pt_regs {
    // SAFETY: the helpers return the current task and its saved registers, which the verifier knows by type and
    // allows to be read.
    unsafe {
        let task = generated::bpf_get_current_task_btf();
        generated::bpf_task_pt_regs(task) as *const pt_regs
    }
}

/// What the system call returned: the second argument of `sys_exit`.
#[inline(always)]
fn result(ctx: &RawTracePointContext) -> i64 {
    ctx.arg(1)
}

/// A system call returned: makes a tail call to the program for its number, if there is one.
#[raw_tracepoint]
pub fn sys_exit(ctx: RawTracePointContext) -> u32 {
    let regs = ctx.arg::<u64>(0) as *const pt_regs;
    // SAFETY: the first argument of `sys_exit` is the saved registers; the read is checked.
    let Ok(number) = (unsafe { bpf_probe_read_kernel(&raw const (*regs).orig_rax) }) else {
        return 0;
    };
    // SAFETY: nothing here needs to be dropped. For a number without a program the call fails and returns.
    unsafe { EXITS.tail_call(&ctx, number as u32) };
    0
}

/// Argument `index` of the system call of a `syscalls:sys_enter_*` event.
#[inline(always)]
fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    // SAFETY: `struct syscall_trace_enter`: 8 bytes for the kernel, the number, six arguments.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u64>().add(2 + index)) }
}

/// `syscalls:sys_enter_close`.
#[tracepoint]
pub fn enter_close(ctx: TracePointContext) -> u32 {
    if let Some(thread) = watched(target_flags::REQUESTS) {
        http::closed(thread, argument(&ctx, 0) as u32);
    }
    0
}

/// `syscalls:sys_enter_munmap`.
#[tracepoint]
pub fn enter_munmap(ctx: TracePointContext) -> u32 {
    if let Some(thread) = watched(target_flags::MAPPINGS) {
        let (addr, len) = (argument(&ctx, 0), argument(&ctx, 1));
        send(thread, vm::MUNMAP, addr, len, 0, 0, None);
    }
    0
}

/// A system call was entered: for hosts where the two events above are not found.
#[raw_tracepoint]
pub fn sys_enter(ctx: RawTracePointContext) -> u32 {
    match ctx.arg::<u64>(1) {
        CLOSE => raw_close(),
        MUNMAP => raw_munmap(),
        _ => {}
    }
    0
}

/// Location of the `len` bytes that a read or write has transferred.
#[inline(always)]
fn bytes(regs: *const pt_regs, len: u32) -> Bytes {
    let (at, vectors) = match register!(regs, orig_rax) {
        READV | WRITEV => (register!(regs, rsi), register!(regs, rdx)),
        RECVMSG | SENDMSG => {
            // `msg_iov` and `msg_iovlen` are at offset 16 of `struct msghdr`.
            let iovec = register!(regs, rsi).wrapping_add(16);
            // SAFETY: the helper checks the address.
            match unsafe { bpf_probe_read_user(iovec as *const [u64; 2]) } {
                Ok([at, vectors]) => (at, vectors),
                Err(_) => {
                    return Bytes {
                        at: 0,
                        vectors: 0,
                        len: 0,
                    };
                }
            }
        }
        SENDFILE => {
            return Bytes {
                at: 0,
                vectors: 0,
                len: 0,
            };
        }
        _ => (register!(regs, rsi), 0),
    };
    Bytes {
        at,
        vectors: vectors as u32,
        len,
    }
}

/// read, recvfrom, readv, recvmsg returned.
#[raw_tracepoint]
pub fn exit_read(ctx: RawTracePointContext) -> u32 {
    let Some((config, thread)) = configured(target_flags::REQUESTS) else {
        return 0;
    };
    let regs = user_regs();
    let ret = result(&ctx);
    let fd = register!(regs, rdi) as u32;
    let known = http::find(thread, fd);
    if ret <= 0 {
        if let Some(conn) = known {
            http::idle(thread, conn);
        }
        return 0;
    }
    let peeked = match register!(regs, orig_rax) {
        RECVFROM => register!(regs, r10) & MSG_PEEK != 0,
        RECVMSG => register!(regs, rdx) & MSG_PEEK != 0,
        _ => false,
    };
    if peeked {
        return 0;
    }
    // Clears the current task if its poll has returned.
    request::at(thread, register!(regs, rsp));
    let bytes = bytes(regs, ret as u32);
    let conn = match known {
        Some(conn) => conn,
        None => {
            if ret < 4 || !reading::begins_request(&bytes, fd) {
                return 0;
            }
            match http::create(thread, fd, 0) {
                Some(conn) => conn,
                None => return 0,
            }
        }
    };
    reading::feed(thread, conn, fd, &bytes, &config.credential);
    0
}

/// write, sendto, writev, sendmsg, sendfile returned.
#[raw_tracepoint]
pub fn exit_write(ctx: RawTracePointContext) -> u32 {
    let Some(thread) = watched(target_flags::REQUESTS) else {
        return 0;
    };
    let regs = user_regs();
    let ret = result(&ctx);
    if ret <= 0 {
        return 0;
    }
    let fd = register!(regs, rdi) as u32;
    let Some(conn) = http::find(thread, fd) else {
        http::answers_forgotten(thread, fd);
        return 0;
    };
    request::at(thread, register!(regs, rsp));
    answer::written(thread, conn, fd, &bytes(regs, ret as u32), ret as u64);
    0
}

/// accept, accept4 returned.
#[raw_tracepoint]
pub fn exit_accept(ctx: RawTracePointContext) -> u32 {
    let Some(thread) = watched(target_flags::REQUESTS) else {
        return 0;
    };
    let ret = result(&ctx);
    if ret < 0 {
        return 0;
    }
    rested(thread);
    // A connection whose close was not seen (close_range, dup2) ends now.
    http::closed(thread, ret as u32);
    let _ = http::create(thread, ret as u32, 1);
    0
}

/// epoll_wait, poll, select, futex and similar calls returned. What a thread does after it has answered a request and
/// waited does not belong to that request. Event loops without visible tasks need this: otherwise a timer would be
/// attributed to the last request of its thread.
#[raw_tracepoint]
pub fn exit_wait(_ctx: RawTracePointContext) -> u32 {
    let Some(thread) = watched(target_flags::REQUESTS) else {
        return 0;
    };
    if thread.request == 0 || thread.answered == 0 {
        return 0;
    }
    let regs = user_regs();
    if register!(regs, orig_rax) == FUTEX
        && !matches!(
            register!(regs, rsi) & FUTEX_COMMANDS,
            FUTEX_WAIT | FUTEX_WAIT_BITSET
        )
    {
        return 0;
    }
    // Clears the current task if its poll has returned.
    request::at(thread, register!(regs, rsp));
    rested(thread);
    0
}

/// The thread waits for something new: a request that it has answered is not current any more.
#[inline(always)]
fn rested(thread: &mut Thread) {
    if thread.task == 0 && thread.answered != 0 {
        thread.request = 0;
    }
}

/// close was entered.
#[inline(always)]
fn raw_close() {
    let Some(thread) = watched(target_flags::REQUESTS) else {
        return;
    };
    let regs = user_regs();
    http::closed(thread, register!(regs, rdi) as u32);
}

/// mmap, mremap, brk returned.
#[raw_tracepoint]
pub fn exit_map(ctx: RawTracePointContext) -> u32 {
    let Some(thread) = watched(target_flags::MAPPINGS) else {
        return 0;
    };
    let regs = user_regs();
    let ret = result(&ctx);
    if ret < 0 {
        return 0;
    }
    let addr = ret as u64;
    match register!(regs, orig_rax) {
        MMAP if register!(regs, r10) & MAP_ANONYMOUS != 0 => {
            send(
                thread,
                vm::MMAP,
                addr,
                register!(regs, rsi),
                0,
                0,
                Some(regs),
            );
        }
        MMAP if register!(regs, r10) & MAP_FIXED != 0 => {
            send(thread, vm::MUNMAP, addr, register!(regs, rsi), 0, 0, None);
        }
        MREMAP => send(
            thread,
            vm::MREMAP,
            addr,
            register!(regs, rdx),
            register!(regs, rdi),
            register!(regs, rsi),
            Some(regs),
        ),
        BRK => send(thread, vm::BRK, addr, 0, 0, 0, Some(regs)),
        _ => {}
    }
    0
}

/// munmap was entered.
#[inline(always)]
fn raw_munmap() {
    let Some(thread) = watched(target_flags::MAPPINGS) else {
        return;
    };
    let regs = user_regs();
    send(
        thread,
        vm::MUNMAP,
        register!(regs, rdi),
        register!(regs, rsi),
        0,
        0,
        None,
    );
}

#[inline(always)]
fn send(
    thread: &mut Thread,
    op: u32,
    addr: u64,
    len: u64,
    old_addr: u64,
    old_len: u64,
    regs: Option<*const pt_regs>,
) {
    let mut site = 0;
    let mut request = 0;
    if let Some(regs) = regs {
        if thread.flags & target_flags::STACKS != 0 {
            let start = Start {
                pc: register!(regs, rip),
                sp: register!(regs, rsp),
                bp: register!(regs, rbp),
                exact_pc: 1,
            };
            site = stack::site(thread, &start);
        }
        (request, _) = request::at(thread, register!(regs, rsp));
    }
    let Some(mut entry) = EVENTS.reserve::<VmRecord>(0) else {
        count(Counter::RingFull);
        return;
    };
    entry.write(VmRecord {
        kind: kind::VM,
        tgid: thread.tgid,
        op,
        tid: bpf_get_current_pid_tgid() as u32,
        addr,
        len,
        old_addr,
        old_len,
        request,
        site,
        // SAFETY: no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        space: thread.space,
    });
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}
