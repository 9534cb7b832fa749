//! Finds functions of a Rust program by their demangled names, and crates by source paths.

use heaptide_process::Module;
use heaptide_process::plan::wishes::FunctionAt;
use regex::Regex;

/// Functions of a program. Among the symbols with `mark` in their name: those that contain all `words` and match
/// `pattern` when demangled. Also returns whether any has the mark.
pub(crate) fn matching(
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

/// A stripped program still contains the source paths of its panics.
pub(crate) fn mentions(main: &Module, pattern: &str) -> bool {
    let Some(section) = main.elf.section(".rodata") else {
        return false;
    };
    let found = regex::bytes::Regex::new(pattern)
        .is_ok_and(|path| main.elf.search(section, 4096, |bytes| path.is_match(bytes)));
    main.elf.release();
    found
}
