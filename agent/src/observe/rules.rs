//! Unwind rules in the kernel's map, by layout, and making room when the map is full.
//!
//! Rules are removed with the last process of their layout. When the map is full, all rules of the layout with the
//! most are removed. The needed ones are added again by the next copies of its stacks, so other targets are not
//! affected.

use std::collections::HashMap;
use std::mem;

use heaptide_ebpf::{MAX_RULES, UnwindRule};
use rustc_hash::FxHashSet;
use tracing::warn;

use crate::kernel::Kernel;

/// Maximum unwind rules published for a process before its first probe is hit.
const PREFILL: usize = 120_000;

/// Contents of the map.
#[derive(Default)]
pub(super) struct Rules {
    layouts: HashMap<u32, Published>,
    total: usize,
    said: bool,
}

#[derive(Default)]
struct Published {
    addresses: FxHashSet<u64>,
    /// Number of times that rules were rejected or removed for others.
    lost: u64,
}

impl Rules {
    /// Rules that a new layout may publish at once: half of the room, so that others have room too.
    pub(super) fn prefill(&self) -> usize {
        let room = (MAX_RULES as usize).saturating_sub(self.total);
        PREFILL.min(room / 2)
    }

    /// Whether a rule is in the map.
    pub(super) fn has(&self, layout: u32, address: u64) -> bool {
        let published = self.layouts.get(&layout);
        published.is_some_and(|published| published.addresses.contains(&address))
    }

    /// Publishes rules; returns their number.
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
            self.say("the kernel rejects more unwind rules");
        }
        added
    }

    /// Removes the rules of a layout without a process.
    pub(super) fn release(&mut self, kernel: &mut Kernel, layout: u32) {
        if let Some(published) = self.layouts.remove(&layout) {
            self.total = self.total.saturating_sub(published.addresses.len());
            kernel.remove_rules(layout, published.addresses.into_iter());
        }
    }

    /// Number of times that rules of a layout were rejected or removed.
    pub(super) fn lost(&self, layout: u32) -> u64 {
        self.layouts
            .get(&layout)
            .map_or(0, |published| published.lost)
    }

    /// Removes the rules of the layout with the most; false if there are none.
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
        self.say("the map of unwind rules is full: the rules of the largest target are removed");
        true
    }

    fn say(&mut self, what: &str) {
        if !mem::replace(&mut self.said, true) {
            warn!("{what}; stacks are copied more often, which costs the targets more");
        }
    }
}
