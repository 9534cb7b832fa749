//! Before 3.11 a thread state names its thread by the address of the C library's structure: where in that the
//! kernel's id of the thread lies.

use std::fs;

use heaptide_process::memory::{Budget, ProcessMemory};

use super::interpreter::Interpreter;
use super::layout::ThreadId;

/// Words of the C library's structure that are looked at.
const WORDS: usize = 128;
/// Thread states on the way to that of the main thread, which is the oldest.
const MOST: usize = 1024;

/// Where that is in glibc's `struct pthread` on x86-64, since long ago.
const GLIBC: u32 = 720;

/// Where the structure that describes the main thread has its id. While there is no main thread yet it is taken to be
/// glibc's: a wrong place finds no thread.
pub(super) fn id_offset(pid: u32, start_ticks: u64, python: &Interpreter) -> u32 {
    look(pid, start_ticks, python).unwrap_or(GLIBC)
}

fn look(pid: u32, start_ticks: u64, python: &Interpreter) -> Option<u32> {
    let layout = &python.layout;
    let ThreadId::Pthread(at) = layout.tstate_thread else {
        return None;
    };
    let memory = ProcessMemory::new(pid, start_ticks);
    let budget = &mut Budget::small();
    let mut field = |object: u64, offset: u64| memory.word(object.wrapping_add(offset), budget);
    let interpreter = field(python.runtime, layout.interpreters_head)?;
    let mut state = field(interpreter, layout.threads_head)?;
    let wanted = main_thread(pid)?;
    for _ in 0..MOST {
        if state == 0 {
            return None;
        }
        let thread = field(state, at)?;
        if let Some(offset) = find(&memory, thread, wanted) {
            return Some(offset);
        }
        state = field(state, layout.tstate_next)?;
    }
    None
}

/// Where a number lies in a thread's structure.
fn find(memory: &ProcessMemory, thread: u64, wanted: u32) -> Option<u32> {
    let words = memory.words::<WORDS>(thread, &mut Budget::small())?;
    let halves: &[u32] = bytemuck::cast_slice(&words);
    let index = halves.iter().position(|half| *half == wanted)?;
    u32::try_from(4 * index).ok()
}

/// The id of a process's main thread in its own PID namespace.
fn main_thread(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use heaptide_process::identity;

    use super::*;

    /// This program's own main thread is described by its C library too.
    #[test]
    fn the_id_of_the_main_thread_is_found() {
        let pid = std::process::id();
        let memory = ProcessMemory::new(pid, identity::stat(pid).unwrap().start_ticks);
        let tid = main_thread(pid).unwrap();
        assert_eq!(tid, pid);
        // SAFETY: takes no pointers.
        let own = unsafe { libc::pthread_self() };
        // SAFETY: takes no pointers.
        let thread = unsafe { libc::gettid() };
        assert_eq!(
            find(&memory, own as u64, thread.cast_unsigned()),
            Some(GLIBC)
        );
        assert_eq!(find(&memory, own as u64, u32::MAX - 5), None);
    }
}
