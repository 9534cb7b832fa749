//! The observed process of all traces, and its stacks.

use std::sync::Arc;

use heaptide_judge::events::{Frame, FrameKind, Nanos, Observation, Site, SiteId, TargetInfo};

/// Id, leading function and line of each stack.
const SITES: [(u64, &str, u32); 6] = [
    (1, "get_data", 17),
    (2, "get_data", 18),
    (3, "introspect", 40),
    (4, "tick", 90),
    (5, "parse_body", 60),
    (6, "get_data", 19),
];

/// The first observations of a trace.
pub(crate) fn announce(now: Nanos, heap_unseen: bool) -> Vec<Observation> {
    let info = TargetInfo {
        pid: 17,
        exe: "/srv/service".to_owned(),
        runtime: "node.js".to_owned(),
        mode: "trace".to_owned(),
        heap_unseen,
        ..TargetInfo::default()
    };
    let sites = SITES.into_iter().map(|(id, function, line)| {
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
    });
    std::iter::once(Observation::Target(now, info))
        .chain(sites)
        .collect()
}

fn frame(function: &str, file: &str, line: u32, kind: FrameKind) -> Frame {
    Frame {
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
        module: "service".to_owned(),
        kind,
    }
}
