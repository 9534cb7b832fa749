//! tokio: `tokio::runtime::task::raw::poll` is called with the task's header whenever a task runs,
//! and survives even full link-time optimisation.

use std::sync::LazyLock;

use regex::Regex;

use super::{Inspected, Module, RuntimeMatch, TaskPoint};

static POLL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^tokio::runtime::task::raw::poll(::<.*>)?$").ok());

/// Its future for a stream is polled by a function of its own, in the builds that were looked at.
static STREAM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern =
        r"^<hyper::proto::h2::server::H2Stream<.*> as core::future::future::Future>::poll$";
    Regex::new(pattern).ok()
});

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let poll = POLL.as_ref()?;
    let main = inspected.modules.first()?;
    let (seen, tasks) = task_points(main, "tokio", &["poll", "raw"], poll);
    if !seen && !mentions(main, r"/tokio-1\.\d+\.\d+/src/runtime/") {
        return None;
    }
    let limitation = tasks.is_empty().then(|| {
        "tokio is linked in but its task poll function has no symbol (stripped): requests are \
         tied to threads, not to tasks"
            .to_string()
    });
    let streams = if tasks.is_empty() {
        Vec::new()
    } else {
        task_points(main, "H2Stream", &["hyper", "poll"], STREAM.as_ref()?).1
    };
    let limitation = limitation.or_else(|| {
        let linked = !streams.is_empty() || mentions(main, r"/h2-0\.\d+\.\d+/src/");
        linked.then(|| of_streams(&streams).to_string())
    });
    Some(RuntimeMatch {
        streams,
        name: "tokio".to_string(),
        tasks,
        own_heap: false,
        limitation,
        ..RuntimeMatch::default()
    })
}

/// What is not seen of HTTP/2 by the h2 crate.
fn of_streams(streams: &[TaskPoint]) -> &'static str {
    if streams.is_empty() {
        "requests over HTTP/2 are not seen (the h2 crate is linked in): only those over HTTP/1, and \
         functions named by --handler"
    } else {
        "of requests over HTTP/2 (the h2 crate is linked in) neither paths nor tokens are seen: they are one route, \
         or those of the functions named by --handler, and whether tokens make memory grow cannot be said"
    }
}

/// Functions whose entry says which task runs: among the symbols with `mark` in their name those that have
/// all `words` in it and match `pattern` demangled. Also whether there is any with the mark.
pub(super) fn task_points(
    main: &Module,
    mark: &str,
    words: &[&str],
    pattern: &Regex,
) -> (bool, Vec<TaskPoint>) {
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
                && !tasks.iter().any(|t: &TaskPoint| t.vaddr == symbol.address)
            {
                let (vaddr, size) = (symbol.address, symbol.size);
                tasks.push(TaskPoint {
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
pub(super) fn mentions(main: &Module, pattern: &str) -> bool {
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
