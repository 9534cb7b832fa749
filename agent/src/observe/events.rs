//! Processes ring records: requests, mappings, stacks, process events.

use std::collections::VecDeque;

use heaptide_judge::events::{Observation, Request};
use heaptide_process::clocks::now;

use super::host::{Host, Sink};
use super::lifecycle;
use super::residency::Text;
use crate::decode::{Event, Record};

/// Processes what was read since the last call.
pub(super) fn pump(host: &mut Host, sink: &mut Sink<'_>) {
    let records = host.ring.take();
    take(host, records, sink);
}

/// Processes everything in the ring by now.
pub(super) fn pump_all(host: &mut Host, sink: &mut Sink<'_>) {
    let records = host.ring.take_all();
    take(host, records, sink);
}

fn take(host: &mut Host, records: VecDeque<Record>, sink: &mut Sink<'_>) {
    for record in records {
        let Some(attached) = host.attached.get_mut(&record.tgid) else {
            continue;
        };
        match record.event {
            Event::Request {
                request,
                handler,
                window,
            } => {
                if let Some(searches) = &mut host.searches
                    && let Some((window, token)) = window.zip(request.token)
                {
                    let text = Text {
                        least: attached.config.credential.smallest_byte(),
                        wide: attached.target.runtime.wide_strings,
                    };
                    searches.ended(record.tgid, text, window, token, request.end);
                }
                let request = named(request, handler, &attached.handlers);
                sink(record.tgid, Observation::Request(request));
            }
            Event::Mapping(mapping) => {
                if mapping.space == attached.config.space && !attached.regions.apply(&mapping) {
                    host.lost_mappings += 1;
                }
            }
            Event::Stack(raw) => {
                attached.unwind(&mut host.kernel, &mut host.rules, &raw, now());
            }
            Event::Life(life) => lifecycle::take(host, record.tgid, life, sink),
            Event::Picked(object) => attached.picked(&object),
        }
    }
    for attached in host.attached.values_mut().filter(|one| !one.ended) {
        attached.watch_objects(&mut host.kernel, now());
    }
    host.kernel.flush_log();
    lifecycle::meet_new_programs(host, sink);
}

/// A handler scope has its name in place of a path.
fn named(mut request: Request, handler: Option<u32>, names: &[String]) -> Request {
    if let Some(number) = handler {
        let name = names.get(number as usize).map_or("unknown", String::as_str);
        request.head = format!("handler {name}");
    }
    request
}
