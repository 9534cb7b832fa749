//! Probes in net/http that find the request of a goroutine, and in the runtime for heap objects and
//! goroutines.

use heaptide_ebpf::{GoCookie, GoRuntimeCookie};
use heaptide_process::plan::wishes::{Ask, FunctionAt, ProbeWish, Wishes};
use heaptide_process::plan::{Program as Kernel, Purpose};

use super::layout::Pattern;
use super::program::{self, Program};

/// net/http calls the handler.
const SERVED: Kernel = Kernel::at("go_serve", Purpose::Request);
/// The handler has returned.
const FINISHED: Kernel = Kernel::at("go_finish", Purpose::Request);
/// A router looks up the handler of a request.
const ROUTED: Kernel = Kernel::at("go_route", Purpose::Request);
/// net/http begins to read a head. Only allocations need it, so it comes and goes with their probes.
const READING: Kernel = Kernel::at("go_read", Purpose::Allocation);
/// net/http has read an HTTP/2 head.
const HTTP2_HEAD: Kernel = Kernel::at("go_h2_head", Purpose::Request);
/// It calls the HTTP/2 handler.
const HTTP2_RUN: Kernel = Kernel::at("go_h2_run", Purpose::Request);
/// The HTTP/2 handler has returned.
const HTTP2_DONE: Kernel = Kernel::at("go_h2_done", Purpose::Request);
/// The runtime begins or ends a goroutine. Only allocations need it too.
const GOROUTINE: Kernel = Kernel::at("go_goroutine", Purpose::Allocation);
/// The runtime looks for a free slot in a span.
const NEXT_FREE: Kernel = Kernel::at("go_next_free", Purpose::Allocation);
/// The runtime has a new span.
const NEW_SPAN: Kernel = Kernel::at("go_large", Purpose::Allocation);

/// `http2.responseWriterState.status` in golang.org/x/net, whose versions are independent of Go's.
const HTTP2_MODULE_STATUS: u16 = 72;

/// All programs of this file.
pub(super) const PROGRAMS: &[Kernel] = &[
    SERVED, FINISHED, ROUTED, READING, HTTP2_HEAD, HTTP2_RUN, HTTP2_DONE, GOROUTINE, NEXT_FREE,
    NEW_SPAN,
];

/// Requests these probes, if the layout of the version is known.
///
/// Go's ABI passes arguments in registers and keeps the goroutine in R14. After the stack check, at the `push
/// rbp`, all of them are as at the entry.
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
