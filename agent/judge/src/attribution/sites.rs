//! Call stacks: maps a site to its leading frame, which names the series.

use std::collections::BTreeMap;

use crate::events::{Frame, FrameKind, MemoryKind, Site, SiteId};

use super::keys::Map;

/// Maximum number of stacks. Later ones share the unknown leading frame.
const MOST_SITES: usize = 16_384;
/// Maximum number of leading frames.
const MOST_LEADING_FRAMES: usize = 8_192;

/// A leading frame: function, file and module. The line is not part of it, so a function that keeps memory
/// in several lines is one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeadingFrameId(pub u32);

impl LeadingFrameId {
    /// For stacks that were not announced or did not fit.
    pub const UNKNOWN: Self = Self(0);
}

/// Function, file and module.
type LeadingKey = (String, Option<String>, String);

struct Known {
    site: Site,
    leading: LeadingFrameId,
    direct: bool,
}

/// All announced stacks.
pub struct Sites {
    known: Map<SiteId, Known>,
    leading_frames: BTreeMap<LeadingKey, LeadingFrameId>,
    /// Function and `file:line` (else the module) of each leading frame, as first seen.
    names: Vec<(String, String)>,
    refused: u64,
}

impl Sites {
    /// None yet.
    pub fn new() -> Self {
        Self {
            known: Map::default(),
            leading_frames: BTreeMap::new(),
            names: vec![("(unknown)".to_owned(), String::new())],
            refused: 0,
        }
    }

    /// Takes a stack. An empty stack is ignored.
    pub fn observe(&mut self, site: &Site) {
        if site.stack.is_empty() {
            return;
        }
        if self.known.len() >= MOST_SITES && !self.known.contains_key(&site.id) {
            self.refused += 1;
            return;
        }
        let frame = site.leading();
        let key = (
            frame.function.clone(),
            frame.file.clone(),
            frame.module.clone(),
        );
        let next = LeadingFrameId(self.leading_frames.len() as u32 + 1);
        let leading = match self.leading_frames.get(&key) {
            Some(leading) => *leading,
            None if self.leading_frames.len() >= MOST_LEADING_FRAMES => LeadingFrameId::UNKNOWN,
            None => {
                let location = match (&frame.file, frame.line) {
                    (Some(file), Some(line)) => format!("{file}:{line}"),
                    (Some(file), None) => file.clone(),
                    (None, _) => frame.module.clone(),
                };
                self.names.push((frame.function.clone(), location));
                self.leading_frames.insert(key, next);
                next
            }
        };
        let direct = maps_directly(&site.stack);
        self.known.insert(
            site.id,
            Known {
                site: site.clone(),
                leading,
                direct,
            },
        );
    }

    /// The leading frame of a site.
    pub fn leading(&self, id: SiteId) -> LeadingFrameId {
        self.known
            .get(&id)
            .map_or(LeadingFrameId::UNKNOWN, |known| known.leading)
    }

    /// Function and location of a leading frame.
    pub fn describe(&self, leading: LeadingFrameId) -> (String, String) {
        self.names
            .get(leading.0 as usize)
            .or(self.names.first())
            .cloned()
            .unwrap_or_default()
    }

    /// Stacks refused because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether blocks of this site are judged. A mapping is judged only if the application's own code made
    /// it. Arenas that allocators map contain heap blocks, which are judged already.
    pub fn judged(&self, id: SiteId, kind: MemoryKind) -> bool {
        match kind {
            MemoryKind::Heap => true,
            MemoryKind::Mapping => self.known.get(&id).is_some_and(|known| known.direct),
        }
    }

    /// The stack of a site.
    pub fn get(&self, id: SiteId) -> Option<&Site> {
        self.known.get(&id).map(|known| &known.site)
    }

    /// Estimated size of the state in bytes. Stacks are shared with the source, so only the handles count.
    pub fn state_bytes(&self) -> usize {
        self.known.capacity() * (size_of::<Known>() + 9) + self.leading_frames.len() * 160
    }
}

impl Default for Sites {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the first frame outside the mapping calls is the application's own code.
fn maps_directly(stack: &[Frame]) -> bool {
    stack
        .iter()
        .find(|frame| !is_mapping_call(&frame.function))
        .is_some_and(|frame| frame.kind == FrameKind::User)
}

fn is_mapping_call(function: &str) -> bool {
    let name = function.trim_start_matches('_');
    let name = name.split('@').next().unwrap_or(name);
    matches!(
        name,
        "mmap" | "mmap64" | "mremap" | "brk" | "sbrk" | "libc_mmap" | "syscall"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn site(id: u64, frames: &[(&str, FrameKind)]) -> Site {
        let frame = |(function, kind): &(&str, FrameKind)| Frame {
            function: (*function).to_owned(),
            file: None,
            line: None,
            module: "service".to_owned(),
            kind: *kind,
        };
        let stack: Arc<[Frame]> = frames.iter().map(frame).collect();
        Site {
            id: SiteId(id),
            stack,
            truncated: false,
        }
    }

    #[test]
    fn a_mapping_is_judged_only_when_the_application_maps() {
        let mut sites = Sites::new();
        sites.observe(&site(
            1,
            &[
                ("__mmap64", FrameKind::Library),
                ("app::pool", FrameKind::User),
            ],
        ));
        let arena = [
            ("mmap", FrameKind::Library),
            ("sysmalloc", FrameKind::Allocator),
            ("malloc", FrameKind::Allocator),
            ("app::get_data", FrameKind::User),
        ];
        sites.observe(&site(2, &arena));
        sites.observe(&site(3, &[]));
        assert!(sites.judged(SiteId(1), MemoryKind::Mapping));
        assert!(!sites.judged(SiteId(2), MemoryKind::Mapping));
        assert!(sites.judged(SiteId(2), MemoryKind::Heap));
        assert!(!sites.judged(SiteId(3), MemoryKind::Mapping));
        assert_eq!(sites.leading(SiteId(3)), LeadingFrameId::UNKNOWN);
        assert_ne!(sites.leading(SiteId(1)), sites.leading(SiteId(2)));
    }
}
