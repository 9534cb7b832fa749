//! tokio: `tokio::runtime::task::raw::poll` is called with the task's header whenever a task runs,
//! and survives even full link-time optimisation.

use std::sync::LazyLock;

use regex::Regex;

use super::{Inspected, RuntimeMatch, TaskPoint};

static POLL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^tokio::runtime::task::raw::poll(::<.*>)?$").ok());

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let poll = POLL.as_ref()?;
    let main = inspected.modules.first()?;
    let (mut seen, mut tasks) = (false, Vec::new());
    main.elf.functions(|symbol| {
        // demangling every symbol of a large program would cost more than the rest of the attach
        if !symbol.name.contains("tokio") {
            return;
        }
        seen = true;
        if symbol.name.contains("poll") && symbol.name.contains("raw") {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name));
            if poll.is_match(&name) && !tasks.iter().any(|t: &TaskPoint| t.vaddr == symbol.address)
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
    if !seen && !mentions_tokio(main) {
        return None;
    }
    let limitation = tasks.is_empty().then(|| {
        "tokio is linked in but its task poll function has no symbol (stripped): requests are \
         tied to threads, not to tasks"
            .to_string()
    });
    Some(RuntimeMatch {
        name: "tokio".to_string(),
        tasks,
        own_heap: false,
        limitation,
        ..RuntimeMatch::default()
    })
}

/// A stripped program still holds the source paths of its panics.
fn mentions_tokio(main: &super::Module) -> bool {
    let Some(section) = main.elf.section(".rodata") else {
        return false;
    };
    let Some(bytes) = main.elf.section_bytes(section) else {
        return false;
    };
    let found = regex::bytes::Regex::new(r"/tokio-1\.\d+\.\d+/src/runtime/")
        .is_ok_and(|path| path.is_match(bytes));
    main.elf.release();
    found
}
