//! User space access to the maps: targets, rules, stacks, blocks, counters, records.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;

use heaptide_ebpf::{
    Block, BlockKey, ConnKey, Counter, FaultKey, FaultTotals, PythonConfig, ReturnedKey, RuleKey,
    Stack, TargetConfig, TaskKey, UnwindRule,
};
use tracing::warn;

use super::{
    Counters, Kernel, KernelError, batch, keys,
    raw::{self, Wire},
};

/// Maps of requests by logical task.
const BY_TASK: [&str; 5] = [
    "TASKS",
    "STREAMS",
    "GO_REQUESTS",
    "GO_STREAMS",
    "GO_CHILDREN",
];
/// More than the capacity of each of those maps.
const MOST_KEYS: usize = 1 << 15;

impl Kernel {
    /// Starts or changes the observation of a process.
    pub fn set_target(&mut self, tgid: u32, config: TargetConfig) -> Result<(), KernelError> {
        self.targets
            .insert(tgid, Wire(config), 0)
            .map_err(|why| KernelError::Map {
                name: "TARGETS",
                why,
            })
    }

    /// Drops the state of these threads from an earlier observation.
    pub fn forget_threads(&self, threads: &[u32]) {
        for thread in threads {
            keys::delete(self.threads_fd, thread);
        }
    }

    /// Drops the requests in progress of a process, and its connections.
    pub fn forget_requests(&self, tgid: u32) {
        let map = |name| self.ebpf.map(name).and_then(raw::map_fd);
        if let Some(conns) = map("CONNS") {
            for key in keys::keys::<ConnKey>(conns.as_raw_fd(), MOST_KEYS) {
                if key.tgid == tgid {
                    keys::delete(conns.as_raw_fd(), &key);
                }
            }
        }
        for name in BY_TASK {
            let Some(tasks) = map(name) else { continue };
            for key in keys::keys::<TaskKey>(tasks.as_raw_fd(), MOST_KEYS) {
                if key.tgid == u64::from(tgid) {
                    keys::delete(tasks.as_raw_fd(), &key);
                }
            }
        }
    }

    /// The kernel programs' configuration of a target.
    pub fn target(&self, tgid: u32) -> Option<TargetConfig> {
        self.targets.get(&tgid, 0).ok().map(|config| config.0)
    }

    /// Ends the observation of a process.
    pub fn remove_target(&mut self, tgid: u32) {
        // Already removed if the process has ended.
        let _ = self.targets.remove(&tgid);
    }

    /// Publishes unwind rules; returns the number for which there was room.
    pub fn add_rules(&mut self, layout: u32, rules: &[(u64, UnwindRule)]) -> usize {
        if rules.is_empty() {
            return 0;
        }
        let keys: Vec<RuleKey> = rules
            .iter()
            .map(|rule| RuleKey {
                pc: rule.0,
                layout: u64::from(layout),
            })
            .collect();
        let values: Vec<UnwindRule> = rules.iter().map(|rule| rule.1).collect();
        let added = batch::update_batch(self.rules_fd, &keys, &values);
        self.changed_rules();
        added
    }

    /// Removes unwind rules.
    pub fn remove_rules(&mut self, layout: u32, addresses: impl Iterator<Item = u64>) {
        let layout = u64::from(layout);
        let keys: Vec<RuleKey> = addresses.map(|pc| RuleKey { pc, layout }).collect();
        batch::delete_batch(self.rules_fd, &keys);
        self.changed_rules();
    }

    /// The programs' caches depend on rules and stacks: invalidates them.
    pub(super) fn changed_rules(&mut self) {
        let version = self.rules_version.get(&0, 0).unwrap_or_default();
        if let Err(why) = self.rules_version.set(0, version.wrapping_add(1), 0) {
            warn!("cannot publish the change of unwind rules to the kernel programs: {why}");
        }
    }

    /// The stack of a site.
    pub fn stack(&self, site: u64) -> Option<Stack> {
        let found = self.stacks.get(&site, 0).ok().map(|stack| stack.0);
        found.or_else(|| self.stack_maps.retired.get(&site).copied())
    }

    /// Calls `each` for every live block and corrects the kernel programs' count of them. Returns the
    /// number.
    pub fn live_blocks(
        &mut self,
        mut each: impl FnMut(&BlockKey, &Block),
    ) -> Result<u64, KernelError> {
        let mut blocks = 0;
        self.batch
            .for_each(self.live_fd, |key, block| {
                blocks += 1;
                each(key, block);
            })
            .map_err(|why| KernelError::Read { name: "LIVE", why })?;
        Ok(blocks)
    }

    /// Calls `each` for every count of frees of older blocks.
    pub fn returned(&mut self, each: impl FnMut(&ReturnedKey, &u64)) -> Result<(), KernelError> {
        self.returned_batch
            .for_each(self.returned_fd, each)
            .map_err(|why| KernelError::Read {
                name: "RETURNED",
                why,
            })
    }

    /// Removes the counts of address spaces that are gone.
    pub fn remove_returned(&mut self, keys: &[ReturnedKey]) {
        for key in keys {
            keys::delete(self.returned_fd, key);
        }
    }

    /// Removes blocks, such as those of an ended process.
    pub fn remove_blocks(&mut self, keys: &[BlockKey]) {
        let mut removed = 0u64;
        for key in keys {
            removed += u64::from(self.live.remove(&Wire(*key)).is_ok());
        }
        if removed == 0 {
            return;
        }
        if let Ok(live) = self.live_blocks.get(&0, 0) {
            // Not atomic with the programs: the count is off by a few until the next removal. It only
            // determines where sampling begins.
            if let Err(why) = self.live_blocks.set(0, live.saturating_sub(removed), 0) {
                warn!("cannot correct the count of live blocks: {why}");
            }
        }
    }

    /// The counters of a slot, summed over CPUs, in the order of [`Counter::ALL`].
    pub fn counters(&self, slot: u32) -> Result<Counters, KernelError> {
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(|why| KernelError::Map {
                name: "COUNTERS",
                why,
            })?;
        let mut sums = [0; Counter::COUNT];
        for cpu in cpus.iter() {
            for (sum, part) in sums.iter_mut().zip(cpu) {
                *sum += part;
            }
        }
        Ok(sums)
    }

    /// Forwards the programs' log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Starts to count the page faults of a process at 0.
    pub fn count_faults(&mut self, tgid: u32) -> Result<(), KernelError> {
        self.faults.count(tgid)
    }

    /// Stops counting.
    pub fn forget_faults(&mut self, tgid: u32) {
        self.faults.forget(tgid);
    }

    /// The page faults of a process so far.
    pub fn faults(&self, tgid: u32) -> Option<FaultTotals> {
        self.faults.totals(tgid)
    }

    /// Takes the counts of sites out: calls `each` with the pages of each site.
    pub fn take_fault_sites(
        &mut self,
        each: impl FnMut(&FaultKey, &u64),
    ) -> Result<(), KernelError> {
        self.faults.take_sites(each)
    }

    /// Starts or stops walking the frames of a runtime's own stacks.
    pub fn set_frames(
        &mut self,
        tgid: u32,
        config: Option<PythonConfig>,
    ) -> Result<(), KernelError> {
        self.faults.set_frames(tgid, config)
    }

    /// Removes a stack that has been read; the programs add it again when it recurs.
    pub fn forget_stack(&mut self, site: u64) {
        let _ = self.stacks.remove(&site);
    }

    /// Calls `each` for every stack in the map.
    pub fn each_stack(&mut self, each: impl FnMut(u64, &Stack)) -> Result<(), KernelError> {
        let read = self.stack_maps.each(each);
        read.map_err(|why| KernelError::Read {
            name: "STACKS",
            why,
        })
    }

    /// Removes stacks; the programs put them there again when they are met again.
    pub fn remove_stacks(&mut self, sites: &[u64]) {
        self.stack_maps.remove(sites);
        self.changed_rules();
    }

    /// The same, but until the next call these can still be asked for.
    pub fn retire_stacks(&mut self, stacks: HashMap<u64, Stack>) {
        let sites: Vec<u64> = stacks.keys().copied().collect();
        self.stack_maps.retired = stacks;
        self.remove_stacks(&sites);
    }

    /// Tells the programs how many stacks of a slot are in the map.
    pub fn set_stacks_held(&mut self, slot: u32, stacks: u64) {
        self.shares.set_stacks_held(slot, stacks);
    }

    /// Tells the programs how many live blocks of a slot are in the map.
    pub fn set_blocks_held(&mut self, slot: u32, blocks: u64) {
        self.shares.set_blocks_held(slot, blocks);
    }

    /// Among how many targets the live map is shared. A quarter of it is theirs in equal parts, unsampled; who needs more
    /// has it as long as there is room.
    pub fn share_blocks(&mut self, targets: usize) {
        let share = u64::from(self.capacity / 4) / targets.max(1) as u64;
        self.shares.set_blocks_share(share);
    }
}
