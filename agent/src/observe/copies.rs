//! Stacks that the kernel copied for lack of an unwind rule: unwinds them, publishes the missing rules, and remembers
//! the true sites of their provisional ids.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::Instant,
};

use heaptide_ebpf::{SITE_PROVISIONAL, UnwindRule, site_hash};
use heaptide_judge::events::{Nanos, SiteId};
use heaptide_process::{ProcessError, symbols::Unwinder};
use tracing::debug;

use super::rules::Rules;
use crate::{decode::RawStack, kernel::Kernel};

/// An alias without a block is dropped after this many seconds. Its block may not be in the kernel's map yet.
const KEPT: f64 = 60.0;
/// The process's mappings are read again after this many times the duration of the last reading: a program that
/// makes code at run time has addresses in no file, and each reading opens all of its files.
const REST: u32 = 20;
/// Maximum addresses in no module that are remembered until the next reading.
const MOST_STRANGE: usize = 4096;
/// Maximum aliases; beyond that those without a known block share one site.
const MOST_ALIASES: usize = 1 << 17;

/// The unwinder of a process, and what it found.
pub(super) struct Copies {
    unwinder: Unwinder,
    /// When the mappings may be read again.
    due: Instant,
    /// Addresses that were in no module when the mappings were read last, and whether they are of interrupted
    /// instructions. The kernel stops there, so that it sends no copy for each of their stacks.
    strange: HashMap<u64, bool>,
    /// Provisional site ids and their true sites.
    aliases: HashMap<u64, Alias>,
    /// Stacks that are not reported yet: addresses, and whether they are truncated.
    unwound: HashMap<SiteId, (Vec<u64>, bool)>,
}

struct Alias {
    site: SiteId,
    made: Nanos,
}

impl Copies {
    /// Reads the mappings of a process.
    pub(super) fn of(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self {
            unwinder: Unwinder::new(pid)?,
            due: Instant::now(),
            strange: HashMap::new(),
            aliases: HashMap::new(),
            unwound: HashMap::new(),
        })
    }

    /// Publishes rules for the call sites of all modules, so that few stacks need a copy. Bounded.
    pub(super) fn prefill(&mut self, kernel: &mut Kernel, published: &mut Rules, layout: u32) {
        let rules = self.unwinder.call_rules(|_| true, published.prefill());
        let added = published.add(kernel, layout, &rules);
        debug!(layout, rules = rules.len(), added, "unwind rules prefilled");
    }

    /// Unwinds a copied stack, publishes the missing rules, and records the true site of its id. The addresses are
    /// kept unless the site was `announced`. Returns whether libraries were found that the process has loaded since.
    pub(super) fn unwind(
        &mut self,
        kernel: &mut Kernel,
        published: &mut Rules,
        raw: &RawStack,
        announced: &HashSet<SiteId>,
        now: Nanos,
    ) -> bool {
        let walk = |unwinder: &mut Unwinder| {
            unwinder.unwind(raw.pc, raw.exact_pc, raw.sp, raw.bp, &raw.bytes)
        };
        let mut walked = walk(&mut self.unwinder);
        let last = walked.frames.last().copied().unwrap_or(raw.pc);
        let is_strange = [last, raw.missing].iter().any(|pc| !self.unwinder.has(*pc));
        let found = is_strange && self.read_again(kernel, published, raw.layout);
        if found {
            walked = walk(&mut self.unwinder);
        }
        let mut rules: Vec<(u64, UnwindRule)> = Vec::new();
        for (index, pc) in walked.frames.iter().chain([&raw.missing]).enumerate() {
            let known = rules.iter().any(|rule| rule.0 == *pc);
            if known || published.has(raw.layout, *pc) {
                continue;
            }
            let is_exact = raw.exact_pc && (index == 0 || *pc == raw.pc);
            if !self.unwinder.has(*pc) && self.strange.len() < MOST_STRANGE {
                self.strange.insert(*pc, is_exact);
            }
            rules.push((*pc, self.rule(*pc, is_exact)));
        }
        if !rules.is_empty() {
            published.add(kernel, raw.layout, &rules);
        }
        let site = SiteId(site_hash(raw.layout, &walked.frames));
        if self.aliases.len() < MOST_ALIASES {
            self.aliases.insert(raw.site, Alias { site, made: now });
        }
        if !announced.contains(&site) {
            self.unwound.insert(site, (walked.frames, walked.truncated));
        }
        found
    }

    fn rule(&mut self, pc: u64, is_exact: bool) -> UnwindRule {
        if is_exact {
            self.unwinder.rule_exact(pc)
        } else {
            self.unwinder.rule(pc)
        }
    }

    /// Reads the mappings again unless it is too early, and publishes the rules of addresses that were in no module
    /// before. Returns whether there are new libraries.
    fn read_again(&mut self, kernel: &mut Kernel, published: &mut Rules, layout: u32) -> bool {
        let begun = Instant::now();
        if begun < self.due {
            return false;
        }
        let added = self.unwinder.refresh();
        self.due = begun + begun.elapsed() * (1 + REST);
        let Ok(added) = added else {
            return false;
        };
        let mut rules = Vec::new();
        for (pc, is_exact) in mem::take(&mut self.strange) {
            if self.unwinder.has(pc) {
                rules.push((pc, self.rule(pc, is_exact)));
            }
        }
        published.add(kernel, layout, &rules);
        !added.is_empty()
    }

    /// Reads the mappings again if stacks ended at addresses in no module. Returns whether there are new libraries.
    pub(super) fn step(&mut self, kernel: &mut Kernel, published: &mut Rules, layout: u32) -> bool {
        !self.strange.is_empty() && self.read_again(kernel, published, layout)
    }

    /// The true site of a provisional id. If the copy was lost, all such blocks share one site.
    pub(super) fn site(&self, raw: u64) -> SiteId {
        self.aliases
            .get(&raw)
            .map_or(SiteId(SITE_PROVISIONAL), |alias| alias.site)
    }

    /// Addresses of an unwound stack, and whether it is truncated; once.
    pub(super) fn take(&mut self, site: SiteId) -> Option<(Vec<u64>, bool)> {
        self.unwound.remove(&site)
    }

    /// Drops aliases that neither a live block nor a recent copy uses.
    pub(super) fn prune(&mut self, used: &HashSet<u64>, now: Nanos) {
        self.aliases
            .retain(|raw, alias| used.contains(raw) || now.since(alias.made) < KEPT);
        let needed: HashSet<SiteId> = self.aliases.values().map(|alias| alias.site).collect();
        self.unwound.retain(|site, _| needed.contains(site));
    }

    /// Drops what was found so far.
    pub(super) fn forget(&mut self) {
        self.aliases.clear();
        self.unwound.clear();
    }
}
