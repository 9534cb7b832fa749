//! Unwind rules in the kernel's map: which layout of addresses has which, and what makes room when the map is full.
//!
//! Rules go with the last process of their layout. When the map is full the layout with the most rules gives up all of
//! its own: those that it needs come again with the next copies of its stacks, so no other target pays for it.

use std::collections::HashMap;
use std::mem;

use heaptide_ebpf::{MAX_RULES, UnwindRule};
use rustc_hash::FxHashSet;
use tracing::warn;

use crate::kernel::Kernel;

/// Unwind rules published for a process before its first probe is hit, at most.
const PREFILL: usize = 120_000;

/// What the map holds.
#[derive(Default)]
pub(super) struct Rules {
    layouts: HashMap<u32, Published>,
    total: usize,
    said: bool,
}

#[derive(Default)]
struct Published {
    addresses: FxHashSet<u64>,
    /// Times that rules were refused, or given up for others.
    lost: u64,
}

impl Rules {
    /// Rules that a new layout may publish at once: half of the room, so that others find some too.
    pub(super) fn prefill(&self) -> usize {
        let room = (MAX_RULES as usize).saturating_sub(self.total);
        PREFILL.min(room / 2)
    }

    /// Whether a rule is in the map.
    pub(super) fn has(&self, layout: u32, address: u64) -> bool {
        let published = self.layouts.get(&layout);
        published.is_some_and(|published| published.addresses.contains(&address))
    }

    /// Publishes rules; returns how many.
    pub(super) fn add(
        &mut self,
        kernel: &mut Kernel,
        layout: u32,
        rules: &[(u64, UnwindRule)],
    ) -> usize {
        while self.total + rules.len() > MAX_RULES as usize && self.make_room(kernel) {}
        let added = kernel.add_rules(layout, rules);
        let published = self.layouts.entry(layout).or_default();
        for (address, _) in rules.iter().take(added) {
            self.total += usize::from(published.addresses.insert(*address));
        }
        if added < rules.len() {
            published.lost += (rules.len() - added) as u64;
            self.say("the kernel refuses more unwind rules");
        }
        added
    }

    /// Takes the rules of a layout back, which no process has any more.
    pub(super) fn release(&mut self, kernel: &mut Kernel, layout: u32) {
        if let Some(published) = self.layouts.remove(&layout) {
            self.total = self.total.saturating_sub(published.addresses.len());
            kernel.remove_rules(layout, published.addresses.into_iter());
        }
    }

    /// Rules of a layout that found no room, or had to make some.
    pub(super) fn lost(&self, layout: u32) -> u64 {
        self.layouts
            .get(&layout)
            .map_or(0, |published| published.lost)
    }

    /// Takes the rules of the layout with the most of them out; false when there are none.
    fn make_room(&mut self, kernel: &mut Kernel) -> bool {
        let most = self
            .layouts
            .iter_mut()
            .max_by_key(|(_, published)| published.addresses.len());
        let Some((layout, published)) = most else {
            return false;
        };
        let addresses = mem::take(&mut published.addresses);
        if addresses.is_empty() {
            return false;
        }
        published.lost += 1;
        self.total = self.total.saturating_sub(addresses.len());
        kernel.remove_rules(*layout, addresses.into_iter());
        self.say("the map of unwind rules is full: the largest target begins anew");
        true
    }

    fn say(&mut self, what: &str) {
        if !mem::replace(&mut self.said, true) {
            warn!("{what}; stacks are copied more often, which costs the targets more");
        }
    }
}
