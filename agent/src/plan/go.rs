//! Go: the two places of net/http that say which request a goroutine serves.

use heaptide_ebpf::{Cookie, GoCookie};

use super::prologue::Needs;
use super::{Planner, Program, place};
use crate::target::Module;
use crate::target::runtimes::go;

impl Planner {
    /// Plans them, if the layout of this version's structures is known.
    ///
    /// Go passes arguments in registers of its own and keeps the goroutine in R14: behind the check of
    /// the stack's size, at the `push rbp`, all of them are as they were at the entry.
    pub(super) fn go(&mut self, module: &Module, program: &go::Program) {
        let Some((layout, requests)) = program.layout.zip(program.requests) else {
            return;
        };
        let cookie = GoCookie::new(
            go::versions::CONNECTION_READER,
            layout.response_status,
            layout.pattern,
        );
        let needs = Needs {
            long_nops: self.long_nops,
            ..Needs::default()
        };
        for (function, name, kernel) in [
            (requests.finish, go::FINISH, Program::GoFinish),
            (requests.serve, go::SERVE, Program::GoServe),
        ] {
            let place = place(module, name, function.entry, function.size, &needs);
            if !place.emulated {
                // single-stepping moves a goroutine's thread through a copy of the instruction: slow,
                // but nothing else is lost
                let why = &place.why;
                self.plan
                    .limitations
                    .push(format!("{name} is slow to watch: {why}"));
            }
            self.add(
                module,
                kernel,
                name,
                function.entry,
                &place,
                Cookie(cookie.0),
            );
        }
    }
}
