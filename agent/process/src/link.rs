//! The lookup order of the target's dynamic linker: it decides which of several `malloc`s is
//! called.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::module::Module;

/// Maximum number of modules followed: the list may be damaged.
const MAX_MODULES: usize = 4096;
/// Maximum number of `.dynamic` entries read.
const MAX_TAGS: u64 = 1024;

/// Indices into `modules` in lookup order: the linker's list (`r_debug`) if it can be read, else
/// the executable, other libraries, the C library.
pub(super) fn order(pid: u32, modules: &[Module]) -> Vec<usize> {
    let mut order = linker_order(pid, modules).unwrap_or_default();
    let mut rest: Vec<usize> = (0..modules.len()).filter(|i| !order.contains(i)).collect();
    rest.sort_by_key(|i| (!modules[*i].main, modules[*i].name.starts_with("libc.")));
    order.extend(rest);
    order
}

fn linker_order(pid: u32, modules: &[Module]) -> Option<Vec<usize>> {
    let main = modules.iter().find(|m| m.main)?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let word = |address: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    // the executable's .dynamic in memory holds DT_DEBUG -> struct r_debug
    let dynamic = main.elf.section(".dynamic")?;
    let start = dynamic.address.wrapping_add(main.bias);
    let mut debug = 0;
    for entry in 0..(dynamic.size / 16).min(MAX_TAGS) {
        const DT_DEBUG: u64 = 21;
        let tag = word(start.wrapping_add(entry * 16))?;
        if tag == DT_DEBUG {
            debug = word(start.wrapping_add(entry * 16 + 8))?;
        }
        if tag == 0 {
            break;
        }
    }
    if debug == 0 {
        return None;
    }
    // r_debug { int version; link_map *map; .. }, link_map { addr, name, ld, next, prev }
    let mut link = word(debug.wrapping_add(8))?;
    let mut order = Vec::new();
    for _ in 0..MAX_MODULES {
        if link == 0 {
            break;
        }
        let (bias, dynamic) = (word(link)?, word(link.wrapping_add(16))?);
        let found = modules.iter().position(|m| {
            let own = m
                .elf
                .section(".dynamic")
                .map(|d| d.address.wrapping_add(m.bias));
            own == Some(dynamic) || (own.is_none() && m.bias == bias)
        });
        if let Some(found) = found
            && !order.contains(&found)
        {
            order.push(found);
        }
        link = word(link.wrapping_add(24))?;
    }
    Some(order)
}
