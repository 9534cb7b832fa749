//! The stacks that allocate in a trace, and the size classes of their blocks.

use std::sync::Arc;

use heaptide_judge::events::{Frame, FrameKind, Observation, Site, SiteId};

/// The stack of one of a keeper's blocks.
pub(crate) fn site_id(keeper: usize, block: usize) -> u64 {
    10 * (keeper as u64 + 1) + block as u64
}

/// Reports a stack.
pub(crate) fn site(id: u64, function: &str, line: u32) -> Observation {
    let frame = |function: &str, file: &str, line, kind| Frame {
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
        module: "service".to_owned(),
        kind,
    };
    let stack: Arc<[Frame]> = Arc::new([
        frame("malloc", "malloc.c", 1, FrameKind::Allocator),
        frame("Vec::push", "vec.rs", 2, FrameKind::Library),
        frame(function, "app.rs", line, FrameKind::User),
    ]);
    Observation::Site(Site {
        id: SiteId(id),
        stack,
        truncated: false,
    })
}

/// The size class of a block for which `bytes` were asked, as the agent reports it for glibc: usable bytes, from 1 KiB on
/// rounded down to three significant bits.
pub(crate) fn size_class(bytes: u64) -> u32 {
    let chunk = (bytes + 8 + 15) & !15;
    let usable = chunk.max(32) - 8;
    let low = if usable < 1_024 {
        0
    } else {
        61 - usable.leading_zeros()
    };
    u32::try_from((usable >> low) << low).unwrap_or(u32::MAX)
}
