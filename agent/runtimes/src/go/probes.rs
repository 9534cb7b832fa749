//! The places of net/http that say which request a goroutine serves, and those of the runtime where objects of
//! its heap and goroutines are met.

use heaptide_ebpf::{GoCookie, GoRuntimeCookie};
use heaptide_process::plan::wishes::{Ask, FunctionAt, ProbeWish, Wishes};
use heaptide_process::plan::{Program as Kernel, Purpose};

use super::layout::Pattern;
use super::program::{self, Program};

/// net/http calls a handler.
const SERVED: Kernel = Kernel::at("go_serve", Purpose::Request);
/// It has returned.
const FINISHED: Kernel = Kernel::at("go_finish", Purpose::Request);
/// A router is asked for the handler of a request.
const ROUTED: Kernel = Kernel::at("go_route", Purpose::Request);
/// net/http begins to read a head.
const READING: Kernel = Kernel::at("go_read", Purpose::Request);
/// net/http has read a head of HTTP/2.
const HTTP2_HEAD: Kernel = Kernel::at("go_h2_head", Purpose::Request);
/// It calls its handler.
const HTTP2_RUN: Kernel = Kernel::at("go_h2_run", Purpose::Request);
/// That has returned.
const HTTP2_DONE: Kernel = Kernel::at("go_h2_done", Purpose::Request);
/// The runtime begins or ends a goroutine.
const GOROUTINE: Kernel = Kernel::at("go_goroutine", Purpose::Task);
/// It looks for room in a span of its heap.
const NEXT_FREE: Kernel = Kernel::at("go_next_free", Purpose::Allocation);
/// It has a new span.
const NEW_SPAN: Kernel = Kernel::at("go_large", Purpose::Allocation);

/// `http2.responseWriterState.status` of the module beside the standard library, whose versions are not Go's.
const HTTP2_MODULE_STATUS: u16 = 72;

/// All of these.
pub(super) const PROGRAMS: &[Kernel] = &[
    SERVED, FINISHED, ROUTED, READING, HTTP2_HEAD, HTTP2_RUN, HTTP2_DONE, GOROUTINE, NEXT_FREE,
    NEW_SPAN,
];

/// Wishes for them, if the layout of this version's structures is known.
///
/// Go passes arguments in registers of its own and keeps the goroutine in R14: behind the check of
/// the stack's size, at the `push rbp`, all of them are as they were at the entry.
pub(super) fn wishes(program: &Program, allocations: bool, wishes: &mut Wishes) {
    let Some(layout) = program.layout else {
        return;
    };
    let http = layout.http;
    let (pattern, behind) = match http.pattern {
        None => (0, false),
        Some(Pattern::Text(at)) => (at, false),
        Some(Pattern::Behind(at)) => (at, true),
    };
    let cookie = GoCookie::new(http.reader, http.status, pattern, behind, http.maps);
    let mut probes = Vec::new();
    if let Some(requests) = program.requests {
        probes.push((requests.finish, program::FINISH, FINISHED, cookie.0));
        probes.push((requests.serve, program::SERVE, SERVED, cookie.0));
        for (router, name) in &program.routers {
            probes.push((*router, name, ROUTED, 0));
        }
    }
    for [head, run, done] in &program.http2 {
        let status = if done.0.starts_with("golang.org/") {
            HTTP2_MODULE_STATUS
        } else {
            http.http2_status
        };
        probes.push((done.1, done.0, HTTP2_DONE, u64::from(status)));
        probes.push((run.1, run.0, HTTP2_RUN, 0));
        probes.push((head.1, head.0, HTTP2_HEAD, 0));
    }
    if allocations {
        let cookie = GoRuntimeCookie::new(
            layout.goroutine.current,
            layout.goroutine.status,
            layout.span.is_wide(),
        );
        let heap = &program.heap;
        let read = heap.read.filter(|_| program.requests.is_some());
        probes.extend(read.map(|read| (read, program::READ, READING, 0)));
        for (function, name, kernel) in [
            (heap.goroutine, program::GOROUTINE, GOROUTINE),
            (heap.new_span, program::NEW_SPAN, NEW_SPAN),
            (heap.next_free, program::NEXT_FREE, NEXT_FREE),
        ] {
            match function {
                Some(function) => probes.push((function, name, kernel, cookie.0)),
                None => wishes.limitations.push(format!(
                    "{name} is not in this program: a part of its heap is not seen"
                )),
            }
        }
    }
    let wished = probes.into_iter();
    wishes
        .probes
        .extend(wished.map(|(function, name, kernel, cookie)| ProbeWish {
            function: FunctionAt {
                module: 0,
                symbol: name.to_string(),
                vaddr: function.entry,
                size: function.size,
            },
            ask: Ask::Entry(kernel, cookie),
        }));
}
