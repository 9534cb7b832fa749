//! Go 1.27, from the DWARF of a program built by Go 1.27.3; written by `cargo xtask layouts go`.

use heaptide_ebpf::go_maps;

use crate::go::layout::{Bucket, Collector, Goroutine, Http, Layout, Pattern, Span};

pub(super) const LAYOUT: Layout = Layout {
    goroutine: Goroutine {
        stack_low: 0,
        stack_high: 8,
        saved_sp: 56,
        saved_pc: 64,
        saved_bp: 96,
        status: 144,
        created_at: 288,
        starts_at: 304,
        current: 184,
    },
    span: Span {
        start: 24,
        pages: 32,
        free: 48,
        objects: 50,
        counter_bytes: 2,
        cache: 56,
        bits: 64,
        sweep: 88,
        allocated: 96,
        class: 98,
        state: 99,
        before: 102,
        size: 104,
    },
    collector: Collector {
        live: 104,
        marked: 152,
        cycles: 648,
        processors: 652,
        mark_ended: 680,
        ended: 688,
    },
    bucket: Bucket {
        next: 8,
        size: 32,
        frames: 40,
        bytes: 48,
        allocations: 0,
        frees: 8,
    },
    http: Http {
        reader: 80,
        status: 128,
        http2_status: 240,
        pattern: Some(Pattern::Text(232)),
        maps: go_maps::GROUPS,
    },
};
