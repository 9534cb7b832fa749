//! Finds functions of a Rust program by their demangled names, crates by source paths, and texts in read-only data.

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

/// The first group of `pattern` in the read-only data of a file.
pub(crate) fn captured(module: &Module, pattern: &str) -> Option<String> {
    let pattern = regex::bytes::Regex::new(pattern).ok()?;
    let mut text = None;
    module
        .elf
        .search(module.elf.section(".rodata")?, 4096, |bytes| {
            let found = pattern.captures(bytes).and_then(|found| found.get(1));
            text = found.map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned());
            text.is_some()
        });
    module.elf.release();
    text
}
