//! Runtimes of Rust that run requests as tasks: the function that runs a task says which one by its first argument.

use heaptide_process::Module;
use heaptide_process::plan::wishes::{Ask, FunctionAt, ProbeWish, Wishes};
use heaptide_process::plan::{Program, Purpose};
use regex::Regex;

use crate::door::Observer;

/// A logical task is run; its address is the first argument.
pub(crate) const TASK_POLL: Program = Program::at("task_poll", Purpose::Task);
/// A stream of HTTP/2 is polled.
pub(crate) const STREAM_POLL: Program = Program::opening("stream_poll", Purpose::Request);
/// It is about to return from that (a probe at each of its ends).
pub(crate) const STREAM_DONE: Program = Program::at("stream_done", Purpose::Request);

/// What stands in the place of a handler's name until one is known.
const STREAM: &str = "HTTP/2 stream";

/// Observes a process whose requests are tasks.
pub(crate) struct Tasks {
    /// Where tasks are polled.
    pub(crate) polls: Vec<FunctionAt>,
    /// Where streams of HTTP/2 are polled, each in a task of its own.
    pub(crate) streams: Vec<FunctionAt>,
}

impl Observer for Tasks {
    fn probes(&self, _: bool) -> Wishes {
        let wish = |function: &FunctionAt, ask| ProbeWish {
            function: function.clone(),
            ask,
        };
        let polls = self.polls.iter();
        let polls = polls.map(|poll| wish(poll, Ask::FirstArgument(TASK_POLL)));
        let streams = self.streams.iter();
        let streams = streams.map(|poll| wish(poll, Ask::Scope(STREAM_POLL, STREAM_DONE, STREAM)));
        Wishes {
            probes: polls.chain(streams).collect(),
            ..Wishes::default()
        }
    }
}

/// Functions whose entry says which task runs: among the symbols with `mark` in their name those that have
/// all `words` in it and match `pattern` demangled. Also whether there is any with the mark.
pub(crate) fn task_points(
    main: &Module,
    mark: &str,
    words: &[&str],
    pattern: &Regex,
) -> (bool, Vec<FunctionAt>) {
    let (mut seen, mut tasks) = (false, Vec::new());
    main.elf.functions(|symbol| {
        // demangling every symbol of a large program would cost more than the rest of the attach
        if !symbol.name.contains(mark) {
            return;
        }
        seen = true;
        if words.iter().all(|word| symbol.name.contains(word)) {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name));
            if pattern.is_match(&name)
                && !tasks.iter().any(|t: &FunctionAt| t.vaddr == symbol.address)
            {
                let (vaddr, size) = (symbol.address, symbol.size);
                tasks.push(FunctionAt {
                    module: 0,
                    symbol: name,
                    vaddr,
                    size,
                });
            }
        }
    });
    main.elf.release();
    (seen, tasks)
}

/// A stripped program still holds the source paths of its panics.
pub(crate) fn mentions(main: &Module, pattern: &str) -> bool {
    let Some(section) = main.elf.section(".rodata") else {
        return false;
    };
    let Some(bytes) = main.elf.section_bytes(section) else {
        return false;
    };
    let found = regex::bytes::Regex::new(pattern).is_ok_and(|path| path.is_match(bytes));
    main.elf.release();
    found
}
