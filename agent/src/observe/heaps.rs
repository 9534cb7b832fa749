//! Forwards what was read of heaps from outside.

use heaptide_judge::events::Observation;
use heaptide_process::clocks::now;
use heaptide_runtimes::readers::HeapReading;
use tracing::info;

use super::host::{Host, Sink};

/// Forwards what was read since the last call.
pub(super) fn take(host: &mut Host, sink: &mut Sink<'_>) {
    let Some(readers) = &host.readers else { return };
    for (pid, reading) in readers.readings() {
        let Some(attached) = host.attached.get_mut(&pid) else {
            continue;
        };
        match reading {
            HeapReading::Census(mut census) => {
                attached.target.runtime.observer.complete(&mut census);
                sink(pid, Observation::Census(census));
            }
            HeapReading::Lengths(lengths) => sink(pid, Observation::Lengths(lengths)),
            HeapReading::GivenUp(why) => {
                info!(pid, "{why}");
                let info = &mut attached.target.info;
                info.limitations.push(why.to_string());
                // Its objects are not seen from here on.
                info.heap_unseen = true;
                sink(pid, Observation::Target(now(), info.clone()));
            }
        }
    }
}
