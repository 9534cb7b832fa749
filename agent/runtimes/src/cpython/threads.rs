//! Before 3.11 a thread state has the address of the C library's thread structure. This file finds the offset of the
//! kernel's thread id in it.

use std::fs;

use heaptide_process::memory::{Budget, ProcessMemory};

use super::interpreter::Interpreter;
use super::layout::ThreadId;

/// Words of the structure that are searched.
const WORDS: usize = 128;
/// Maximum thread states before that of the main thread, which is the oldest.
const MOST: usize = 1024;

/// The offset in glibc's `struct pthread` on x86-64, unchanged for many versions.
const GLIBC: u32 = 720;

/// The offset of the id, from the structure of the main thread. If there is no main thread yet, glibc's is assumed: a
/// wrong offset finds no thread.
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

/// The offset of a number in a thread structure.
fn find(memory: &ProcessMemory, thread: u64, wanted: u32) -> Option<u32> {
    let words = memory.words::<WORDS>(thread, &mut Budget::small())?;
    let halves: &[u32] = bytemuck::cast_slice(&words);
    let index = halves.iter().position(|half| *half == wanted)?;
    u32::try_from(4 * index).ok()
}

/// The main thread's id in its own PID namespace.
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

    /// The C library of this test has a structure for its main thread too.
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
