//! Go 1.22, from the DWARF of a program built by Go 1.22.10; written by `cargo xtask layouts go`.

use heaptide_ebpf::go_maps;

use crate::go::layout::{Bucket, Collector, Goroutine, Http, Layout, Pattern, Span};

pub(super) const LAYOUT: Layout = Layout {
    goroutine: Goroutine {
        stack_low: 0,
        stack_high: 8,
        saved_sp: 56,
        saved_pc: 64,
        saved_bp: 104,
        status: 144,
        created_at: 280,
        starts_at: 296,
        current: 192,
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
        cycles: 400,
        processors: 404,
        mark_ended: 432,
        ended: 440,
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
        status: 120,
        http2_status: 72,
        pattern: Some(Pattern::Behind(248)),
        maps: go_maps::BUCKETS,
    },
};
