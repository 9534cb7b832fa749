//! Heaps that are read from outside: starts the readers, and forwards what they have read.

use heaptide_judge::events::Observation;
use heaptide_process::clocks::now;
use heaptide_runtimes::Target;
use heaptide_runtimes::readers::{HeapReading, Readers};
use tracing::{info, warn};

use super::host::Sink;

/// Starts to read the heap of a target, if its runtime supports it. The readers start with the first such target.
pub(super) fn watch(readers: &mut Option<Readers>, target: &Target) {
    let pid = target.pid();
    let Some(reader) = target.runtime.observer.heap_reader() else {
        if let Some(readers) = readers {
            readers.forget(pid);
        }
        return;
    };
    if readers.is_none() {
        match Readers::start() {
            Ok(started) => *readers = Some(started),
            Err(why) => warn!(pid, "containers are not read: {why}"),
        }
    }
    if let Some(readers) = readers {
        readers.watch(pid, target.info.start_ticks, reader);
    }
}

/// Forwards what was read of a target.
pub(super) fn forward(target: &mut Target, reading: HeapReading, sink: &mut Sink<'_>) {
    let pid = target.pid();
    match reading {
        HeapReading::Census(mut census) => {
            target.runtime.observer.complete(&mut census);
            sink(pid, Observation::Census(census));
        }
        HeapReading::Lengths(lengths) => sink(pid, Observation::Lengths(lengths)),
        HeapReading::GivenUp(why) => {
            info!(pid, "{why}");
            let info = &mut target.info;
            info.limitations.push(why.to_string());
            // Its objects are not seen from here on.
            info.heap_unseen = true;
            sink(pid, Observation::Target(now(), info.clone()));
        }
    }
}
