//! Go: the two places of net/http that say which request a goroutine serves, and those of the runtime where
//! objects of its heap and goroutines are met.

use heaptide_ebpf::{Cookie, GoCookie, GoRuntimeCookie};

use super::prologue::Needs;
use super::{Planner, Program, place};
use crate::target::Module;
use crate::target::runtimes::go;

impl Planner {
    /// Plans them, if the layout of this version's structures is known.
    ///
    /// Go passes arguments in registers of its own and keeps the goroutine in R14: behind the check of
    /// the stack's size, at the `push rbp`, all of them are as they were at the entry.
    pub(super) fn go(&mut self, module: &Module, program: &go::Program, allocations: bool) {
        let Some(layout) = program.layout else {
            return;
        };
        let cookie = GoCookie::new(
            go::versions::CONNECTION_READER,
            layout.response_status,
            layout.pattern,
            layout.maps,
        );
        let needs = Needs {
            long_nops: self.long_nops,
            ..Needs::default()
        };
        let mut probes = Vec::new();
        if let Some(requests) = program.requests {
            probes.push((requests.finish, go::FINISH, Program::GoFinish, cookie.0));
            probes.push((requests.serve, go::SERVE, Program::GoServe, cookie.0));
            for (router, name) in &program.routers {
                probes.push((*router, name, Program::GoRoute, 0));
            }
        }
        for [head, run, done] in &program.http2 {
            let status = if done.0.starts_with("golang.org/") {
                go::versions::HTTP2_MODULE_STATUS
            } else {
                layout.http2_status
            };
            probes.push((done.1, done.0, Program::GoHttp2Done, u64::from(status)));
            probes.push((run.1, run.0, Program::GoHttp2Run, 0));
            probes.push((head.1, head.0, Program::GoHttp2Head, 0));
        }
        if allocations {
            let cookie = GoRuntimeCookie::new(layout.current, layout.status as u16);
            let heap = &program.heap;
            let read = heap.read.filter(|_| program.requests.is_some());
            probes.extend(read.map(|read| (read, go::READ, Program::GoRead, 0)));
            for (function, name, kernel) in [
                (heap.goroutine, go::GOROUTINE, Program::GoGoroutine),
                (heap.new_span, go::NEW_SPAN, Program::GoLarge),
                (heap.next_free, go::NEXT_FREE, Program::GoNextFree),
            ] {
                match function {
                    Some(function) => probes.push((function, name, kernel, cookie.0)),
                    None => self.plan.limitations.push(format!(
                        "{name} is not in this program: not all of its heap is seen"
                    )),
                }
            }
        }
        for (function, name, kernel, cookie) in probes {
            let place = place(module, name, function.entry, function.size, &needs);
            if !place.emulated {
                // single-stepping moves a goroutine's thread through a copy of the instruction: slow,
                // but nothing else is lost
                let why = &place.why;
                self.plan
                    .limitations
                    .push(format!("{name} is slow to watch: {why}"));
            }
            self.add(module, kernel, name, function.entry, &place, Cookie(cookie));
        }
    }
}
