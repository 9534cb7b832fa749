//! Streams of HTTP/2 as requests: entry and returns of the future that hyper polls for each.

use heaptide_ebpf::Cookie;

use super::{Planner, Program, ends, place};
use crate::target::Target;

/// What stands in the place of a handler's name until one is known.
const NAME: &str = "HTTP/2 stream";

impl Planner {
    pub(super) fn streams(&mut self, target: &Target) {
        let none = Cookie::NONE;
        for stream in &target.runtime.streams {
            let module = &target.modules[stream.module];
            let code = module.elf.at(stream.vaddr, stream.size as usize);
            let ends = ends::of(&stream.symbol, code.unwrap_or_default(), stream.vaddr, &[]);
            if ends.is_empty() {
                let symbol = &stream.symbol;
                let said = format!("requests over HTTP/2 are not seen: {symbol} has no end");
                self.plan.limitations.push(said);
                continue;
            }
            let number = self.plan.handlers.iter().position(|name| name == NAME);
            let number = number.unwrap_or_else(|| {
                self.plan.handlers.push(NAME.to_string());
                self.plan.handlers.len() - 1
            }) as u8;
            let (symbol, size) = (&stream.symbol, stream.size);
            let place = place(module, symbol, stream.vaddr, size, &self.needs());
            let cookie = Cookie::new(0, none, none, none, number, place.pushed);
            let poll = Program::StreamPoll;
            self.add(module, poll, symbol, stream.vaddr, &place, cookie);
            for place in ends {
                let cookie = Cookie::new(0, none, none, none, number, 0);
                let done = Program::StreamDone;
                self.add(module, done, symbol, stream.vaddr, &place, cookie);
            }
        }
    }
}
