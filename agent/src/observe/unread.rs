//! Detects requests that are served but cannot be read: behind TLS, in HTTP/2 without a known library, in another
//! protocol.

use std::time::{Duration, Instant};

use heaptide_ebpf::Counter;
use heaptide_judge::events::Observation;
use heaptide_process::{clocks::now, connections};
use tracing::debug;

use super::host::{Host, Sink};

/// Interval of counting connections while no request was read.
const EVERY: Duration = Duration::from_secs(3);

/// The limitation of such a target.
const LIMITATION: &str = "the process serves connections, but no request could be read: they are encrypted (TLS), or in a \
                          protocol that heaptide does not read (HTTP/2 or gRPC of an unknown library, or another one); \
                          so growth cannot be tied to requests, and is not called background";

/// Checks whether targets without a request serve connections. Called every second.
pub(super) fn look(host: &mut Host, sink: &mut Sink<'_>) {
    for (pid, attached) in &mut host.attached {
        if !attached.requests_traced() {
            continue;
        }
        let Ok(counters) = host.kernel.counters(attached.config.slot) else {
            continue;
        };
        let index = Counter::Requests as usize;
        let has_requests = counters[index] > attached.counted[index];
        let info = &mut attached.target.info;
        if has_requests && info.requests_unread {
            info.requests_unread = false;
            info.limitations.retain(|said| said != LIMITATION);
        } else if !has_requests
            && !info.requests_unread
            && is_due(&mut attached.connections_counted)
        {
            match connections::served(*pid) {
                Ok(0) => continue,
                Ok(_) => {
                    info.requests_unread = true;
                    info.limitations.push(LIMITATION.to_owned());
                }
                Err(why) => {
                    debug!(pid, "connections are not counted: {why}");
                    continue;
                }
            }
        } else {
            continue;
        }
        sink(*pid, Observation::Target(now(), info.clone()));
    }
}

fn is_due(counted: &mut Option<Instant>) -> bool {
    let due = counted.is_none_or(|at| at.elapsed() >= EVERY);
    if due {
        *counted = Some(Instant::now());
    }
    due
}
