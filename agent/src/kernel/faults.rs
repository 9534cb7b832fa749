//! The maps of page faults and of Python frames.

use std::os::fd::{AsRawFd as _, RawFd};

use aya::maps::{HashMap, Map, MapData};
use heaptide_ebpf::{FaultKey, FaultTotals, PythonConfig};

use super::{
    KernelError, batch,
    raw::{self, Wire},
};

/// Entries of the map of sites that are taken out at once.
const BATCH: usize = 4096;

/// The maps.
pub(super) struct FaultMaps {
    totals: HashMap<MapData, u32, Wire<FaultTotals>>,
    pythons: HashMap<MapData, u32, Wire<PythonConfig>>,
    /// Kept open for `sites_fd`.
    _sites: Map,
    sites_fd: RawFd,
    batch: batch::Batch<FaultKey, u64>,
}

impl FaultMaps {
    pub(super) fn new(
        mut take: impl FnMut(&'static str) -> Result<Map, KernelError>,
    ) -> Result<Self, KernelError> {
        let mapped = |name, why: aya::maps::MapError| KernelError::Map { name, why };
        let sites = take("FAULT_SITES")?;
        let sites_fd = raw::map_fd(&sites).map(|fd| fd.as_raw_fd());
        Ok(Self {
            totals: HashMap::try_from(take("FAULTS")?).map_err(|why| mapped("FAULTS", why))?,
            pythons: HashMap::try_from(take("PYTHONS")?).map_err(|why| mapped("PYTHONS", why))?,
            _sites: sites,
            sites_fd: sites_fd.ok_or(KernelError::Object {
                what: "map",
                name: "FAULT_SITES",
            })?,
            batch: batch::Batch::new(BATCH),
        })
    }

    /// Starts to count the page faults of a process at 0.
    pub(super) fn count(&mut self, tgid: u32) -> Result<(), KernelError> {
        let none = FaultTotals {
            fresh: 0,
            copied: 0,
            paid_ns: 0,
        };
        let counted = self.totals.insert(tgid, Wire(none), 0);
        counted.map_err(|why| KernelError::Map {
            name: "FAULTS",
            why,
        })
    }

    /// Stops counting.
    pub(super) fn forget(&mut self, tgid: u32) {
        // Absent if the process was never a target.
        let _ = self.totals.remove(&tgid);
        let _ = self.pythons.remove(&tgid);
    }

    /// The page faults of a process so far.
    pub(super) fn totals(&self, tgid: u32) -> Option<FaultTotals> {
        self.totals.get(&tgid, 0).ok().map(|totals| totals.0)
    }

    /// Takes the counts of sites out: calls `each` with the pages of each site.
    pub(super) fn take_sites(
        &mut self,
        each: impl FnMut(&FaultKey, &u64),
    ) -> Result<(), KernelError> {
        let taken = self.batch.take_each(self.sites_fd, each);
        taken.map_err(|why| KernelError::Read {
            name: "FAULT_SITES",
            why,
        })
    }

    /// Starts or stops walking the frames of a runtime's own stacks.
    pub(super) fn set_frames(
        &mut self,
        tgid: u32,
        config: Option<PythonConfig>,
    ) -> Result<(), KernelError> {
        let Some(config) = config else {
            let _ = self.pythons.remove(&tgid);
            return Ok(());
        };
        let set = self.pythons.insert(tgid, Wire(config), 0);
        set.map_err(|why| KernelError::Map {
            name: "PYTHONS",
            why,
        })
    }
}
