//! Prunes the map of stacks: a stack is removed with the last process of its layout, and if no live block has referred
//! to it for a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use heaptide_ebpf::{MAX_STACKS, PYTHON_LAYOUT, Stack};
use rustc_hash::FxHashSet;
use tracing::{debug, warn};

use super::host::Host;

/// Interval of pruning.
const EVERY: Duration = Duration::from_secs(10);
/// Above this number symbolized stacks are removed too, even if they are referred to.
const PRESSED: usize = MAX_STACKS as usize / 4 * 3;

/// State of the last pruning.
pub(super) struct Stacks {
    due: Instant,
    /// Stacks without a block.
    idle: FxHashSet<u64>,
}

impl Stacks {
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now() + EVERY,
            idle: FxHashSet::default(),
        }
    }

    /// Whether pruning is due.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }
}

/// Removes stacks without live blocks, now and at the last pruning. `used`: the sites of all live blocks.
pub(super) fn sweep(host: &mut Host, used: &FxHashSet<u64>) {
    host.stacks.due = Instant::now() + EVERY;
    host.kernel.measure_maps();
    let layouts = host.layouts_in_use();
    let Some(all) = read(host) else { return };
    let pressed = all.len() > PRESSED;
    let mut idle = FxHashSet::default();
    let mut retired = HashMap::new();
    let mut held: HashMap<u32, u64> = HashMap::new();
    for (site, stack) in all {
        let layout = stack.layout & !PYTHON_LAYOUT;
        // Stacks of a runtime's own frames are removed when they are read.
        let own = stack.layout & PYTHON_LAYOUT != 0;
        let is_used = used.contains(&site) && !(pressed && named(host, layout, site));
        if !layouts.contains(&layout) || !own && !is_used && host.stacks.idle.contains(&site) {
            retired.insert(site, stack);
            continue;
        }
        if !own && !is_used {
            idle.insert(site);
        }
        if let Some(attached) = host.attached.get(&stack.tgid) {
            *held.entry(attached.config.slot).or_default() += 1;
        }
    }
    host.stacks.idle = idle;
    if !retired.is_empty() {
        debug!(stacks = retired.len(), "unused stacks are removed");
        host.kernel.retire_stacks(retired);
    }
    for slot in host.slots.used() {
        let stacks = held.get(&slot).copied().unwrap_or(0);
        host.kernel.set_stacks_held(slot, stacks);
    }
}

/// Removes the stacks of layouts without a process.
fn remove_of(host: &mut Host, layouts: &[u32]) {
    let Some(all) = read(host) else { return };
    let gone = |stack: &Stack| layouts.contains(&(stack.layout & !PYTHON_LAYOUT));
    let gone = all.iter().filter(|(_, stack)| gone(stack));
    let sites: Vec<u64> = gone.map(|(site, _)| *site).collect();
    if !sites.is_empty() {
        host.kernel.remove_stacks(&sites);
    }
}

/// Whether the stack is symbolized in every process that could need it.
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
        warn!("unused stacks cannot be removed from the kernel map: {why}");
        return None;
    }
    Some(all)
}

/// Removes the kernel's entries of layouts without a process.
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
