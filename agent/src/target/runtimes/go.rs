//! Go: recognised by its build information or its line table.

use super::{Inspected, RuntimeMatch};

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let main = inspected.modules.first()?;
    let go = [".go.buildinfo", ".gopclntab", ".note.go.buildid"]
        .iter()
        .any(|name| main.elf.section(name).is_some());
    go.then(|| RuntimeMatch {
        name: match version(main) {
            Some(version) => format!("go {version}"),
            None => "go".to_string(),
        },
        own_heap: true,
        limitation: Some(
            "Go's garbage-collected heap is not followed allocation by allocation: only mappings, \
             resident memory and C allocations (cgo) are seen"
                .to_string(),
        ),
        ..RuntimeMatch::default()
    })
}

/// The version in `.go.buildinfo` as it is written since Go 1.18.
fn version(main: &super::Module) -> Option<String> {
    let bytes = main.elf.section_bytes(main.elf.section(".go.buildinfo")?)?;
    let inline = bytes.get(32..)?;
    let len = usize::from(*inline.first()?);
    let text = std::str::from_utf8(inline.get(1..1 + len)?).ok()?;
    Some(text.strip_prefix("go").unwrap_or(text).to_string()).filter(|t| t.len() < 32)
}
