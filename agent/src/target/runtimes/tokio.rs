//! tokio: `tokio::runtime::task::raw::poll` is called with the task's header whenever a task runs,
//! and survives even full link-time optimisation.

use std::sync::LazyLock;

use regex::Regex;

use super::{Inspected, Module, RuntimeMatch, TaskPoint};

static POLL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^tokio::runtime::task::raw::poll(::<.*>)?$").ok());

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
    let limitation = limitation.or_else(|| {
        mentions(main, r"/h2-0\.\d+\.\d+/src/").then(|| {
            "requests over HTTP/2 are not seen (the h2 crate is linked in): only those over HTTP/1, and \
             functions named by --handler"
                .to_string()
        })
    });
    Some(RuntimeMatch {
        name: "tokio".to_string(),
        tasks,
        own_heap: false,
        limitation,
        ..RuntimeMatch::default()
    })
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
