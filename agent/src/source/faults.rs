//! Page faults of the targets: read from the kernel's maps, with the stacks of Python frames where there are any.

use std::{collections::HashMap, fs, os::linux::fs::MetadataExt as _};

use heaptide_ebpf::PythonConfig;
use tracing::{debug, warn};

use super::{Sink, Source, now};
use crate::target::runtimes::cpython::{FramePointer, Interpreter};
use heaptide_judge::events::{Faults, Observation, RequestId, SiteFaults, SiteId};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Places in one observation, those of most pages.
const MAX_SITES: usize = 512;

impl Source {
    /// Begins to count the page faults of a target, from nothing.
    pub(super) fn watch_faults(&mut self, pid: u32) {
        let Some(watched) = self.watched.get(&pid) else {
            return;
        };
        let config = watched
            .target
            .runtime
            .python
            .as_ref()
            .and_then(|python| python_config(pid, python));
        let counted = self.kernel.count_faults(pid);
        let set = self.kernel.set_python(pid, config);
        if let Err(why) = counted.and(set) {
            warn!(pid, "page faults are not counted: {why}");
        }
    }

    /// Reads what has come since the last reading, and says it.
    pub(super) fn read_faults(&mut self, sink: &mut Sink<'_>) {
        let at = now();
        let mut places: HashMap<u32, Vec<(u64, u64, u64)>> = HashMap::new();
        let taken = self.kernel.take_fault_sites(|key, pages| {
            let of = places.entry(key.tgid as u32).or_default();
            of.push((key.site, key.request, *pages));
        });
        if let Err(why) = taken {
            debug!("places of page faults are not read: {why}");
        }
        for (pid, watched) in &mut self.watched {
            let Some(totals) = self.kernel.faults(*pid) else {
                continue;
            };
            let mut sites: HashMap<(SiteId, Option<RequestId>), u64> = HashMap::new();
            for (raw, request, pages) in places.remove(pid).unwrap_or_default() {
                let Some(stacks) = watched.python.as_mut().filter(|_| raw != 0) else {
                    continue;
                };
                let (id, new) = stacks.add(raw, pages, || self.kernel.stack(raw));
                self.kernel.forget_stack(raw);
                if let Some(site) = new {
                    sink(*pid, Observation::Site(site));
                }
                if let Some(id) = id {
                    let request = (request != 0).then_some(RequestId(request));
                    *sites.entry((id, request)).or_default() += pages * PAGE;
                }
            }
            let mut sites: Vec<SiteFaults> = sites
                .into_iter()
                .map(|((site, request), bytes)| SiteFaults {
                    site,
                    request,
                    bytes,
                })
                .collect();
            sites.sort_by_key(|one| (std::cmp::Reverse(one.bytes), one.site.0, one.request));
            sites.truncate(MAX_SITES);
            let faults = Faults {
                at,
                fresh_bytes: totals.fresh * PAGE,
                copied_bytes: totals.copied * PAGE,
                sites,
            };
            sink(*pid, Observation::Faults(faults));
        }
    }
}

/// Where the kernel finds the frames of an interpreter.
fn python_config(pid: u32, python: &Interpreter) -> Option<PythonConfig> {
    let layout = &python.layout;
    let namespace = fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
    let device = namespace.st_dev();
    let (frame, frame_through) = match layout.tstate_frame {
        FramePointer::Direct(at) => (at as u32, u32::MAX),
        FramePointer::Through(at, then) => (at as u32, then as u32),
    };
    Some(PythonConfig {
        runtime: python.runtime,
        // the kernel's own form of a device number
        namespace_device: u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device)),
        namespace_inode: namespace.st_ino(),
        interpreters: layout.interpreters_head as u32,
        threads: layout.threads_head as u32,
        next: layout.tstate_next as u32,
        thread_id: layout.tstate_native_id as u32,
        frame,
        frame_through,
        code: layout.frame_code as u32,
        previous: layout.frame_previous as u32,
        instruction: layout.frame_instr as u32,
        owner: layout.frame_owner as u32,
        entry_owner: u32::from(layout.entry_owner),
        bytecode: layout.code_bytecode as u32,
        context: layout.tstate_context as u32,
        reserved: 0,
    })
}
