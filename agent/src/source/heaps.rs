//! Which heaps are read from outside, and what becomes of what was read.

use heaptide_judge::events::Observation;
use heaptide_runtimes::readers::{HeapReading, Readers};
use tracing::{info, warn};

use super::{Sink, Source, now};

impl Source {
    /// Begins to read the heap of a target, if its runtime can be read.
    pub(super) fn read_heap(&mut self, pid: u32) {
        let Some(watched) = self.watched.get(&pid) else {
            return;
        };
        let Some(reader) = watched.target.runtime.observer.heap_reader() else {
            self.forget_heap(pid);
            return;
        };
        let start_ticks = watched.target.info.start_ticks;
        if self.readers.is_none() {
            match Readers::start() {
                Ok(readers) => self.readers = Some(readers),
                Err(why) => warn!(pid, "containers are not read: {why}"),
            }
        }
        if let Some(readers) = &self.readers {
            readers.watch(pid, start_ticks, reader);
        }
    }

    /// Ends it.
    pub(super) fn forget_heap(&mut self, pid: u32) {
        if let Some(readers) = &self.readers {
            readers.forget(pid);
        }
    }

    /// The requests of a target are seen, or not.
    pub(super) fn heap_requests_seen(&mut self, pid: u32, seen: bool) {
        if let Some(readers) = &self.readers {
            readers.requests_seen(pid, seen);
        }
    }

    /// Hands on what was read meanwhile.
    pub(super) fn take_readings(&mut self, sink: &mut Sink<'_>) {
        let Some(readers) = &self.readers else { return };
        for (pid, reading) in readers.readings() {
            let Some(watched) = self.watched.get_mut(&pid) else {
                continue;
            };
            match reading {
                HeapReading::Census(mut census) => {
                    watched.target.runtime.observer.complete(&mut census);
                    sink(pid, Observation::Census(census));
                }
                HeapReading::Lengths(lengths) => sink(pid, Observation::Lengths(lengths)),
                HeapReading::GivenUp(why) => {
                    info!(pid, "{why}");
                    let info = &mut watched.target.info;
                    info.limitations.push(why.to_string());
                    sink(pid, Observation::Target(now(), info.clone()));
                }
            }
        }
    }
}
