//! Prunes the maps of stacks and rules: both are removed with the last process of their layout, a stack also if no live
//! block has referred to it for a while.

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::{MAX_STACKS, PYTHON_LAYOUT, Stack};
use rustc_hash::FxHashSet;
use tracing::{debug, warn};

use super::host::Host;

/// From here on, stacks that are known by name go too, whoever refers to them.
const PRESSED: usize = MAX_STACKS as usize / 4 * 3;

/// Removes stacks that live blocks do not refer to, now and at the last look. `used`: the sites of all live blocks.
pub(super) fn sweep(host: &mut Host, used: &FxHashSet<u64>) {
    host.kernel.measure_maps();
    let layouts = host.layouts_in_use();
    let Some(all) = read(host) else { return };
    let pressed = all.len() > PRESSED;
    let mut idle = FxHashSet::default();
    let mut retired = HashMap::new();
    let mut held: HashMap<u32, u64> = HashMap::new();
    for (site, stack) in all {
        let layout = stack.layout & !PYTHON_LAYOUT;
        let is_used = used.contains(&site) && !(pressed && named(host, layout, site));
        if !layouts.contains(&layout) || !is_used && host.stacks.was_idle(site) {
            retired.insert(site, stack);
            continue;
        }
        if !is_used {
            idle.insert(site);
        }
        if let Some(attached) = host.attached.get(&stack.tgid) {
            *held.entry(attached.config.slot).or_default() += 1;
        }
    }
    host.stacks.looked(idle);
    if !retired.is_empty() {
        debug!(
            stacks = retired.len(),
            "stacks that nothing refers to are removed"
        );
        host.kernel.retire_stacks(retired);
    }
    for slot in host.slots.used() {
        let stacks = held.get(&slot).copied().unwrap_or(0);
        host.kernel.set_stacks_held(slot, stacks);
    }
}

/// Removes the stacks of layouts that no process has any more.
fn remove_of(host: &mut Host, layouts: &[u32]) {
    let Some(all) = read(host) else { return };
    let gone = |stack: &Stack| layouts.contains(&(stack.layout & !PYTHON_LAYOUT));
    let gone = all.iter().filter(|(_, stack)| gone(stack));
    let sites: Vec<u64> = gone.map(|(site, _)| *site).collect();
    if !sites.is_empty() {
        host.kernel.remove_stacks(&sites);
    }
}

/// Whether every process that could ask for the stack knows what it is called.
fn named(host: &Host, layout: u32, site: u64) -> bool {
    let mut sharing = host
        .attached
        .values()
        .filter(|attached| attached.config.layout == layout);
    sharing.all(|attached| attached.knows(site))
}

fn read(host: &mut Host) -> Option<Vec<(u64, Stack)>> {
    let mut all = Vec::new();
    let done = host
        .kernel
        .each_stack(|site, stack| all.push((site, *stack)));
    if let Err(why) = done {
        warn!("stacks that nobody needs stay in the kernel: {why}");
        return None;
    }
    Some(all)
}

/// What the kernel half knows of layouts that no process has any more is forgotten.
pub(super) fn tidy(host: &mut Host) {
    let in_use: HashSet<u32> = host.layouts_in_use();
    let (kept, gone): (Vec<u32>, Vec<u32>) = host
        .layouts
        .iter()
        .partition(|layout| in_use.contains(layout));
    if gone.is_empty() {
        return;
    }
    host.layouts = kept;
    for layout in &gone {
        host.rules.release(&mut host.kernel, *layout);
    }
    remove_of(host, &gone);
}
