//! Which targets are read, and what becomes of what was read.

use tracing::{info, warn};

use super::{Reader, Reading};
use crate::source::{Sink, Source, now};
use heaptide_judge::events::Observation;

impl Source {
    /// Begins to read a target's objects, if it is an interpreter that can be read.
    pub(in crate::source) fn watch_python(&mut self, pid: u32) {
        let Some(watched) = self.watched.get(&pid) else {
            return;
        };
        let Some(python) = watched.target.runtime.python.clone() else {
            self.forget_python(pid);
            return;
        };
        let start_ticks = watched.target.info.start_ticks;
        if self.python.is_none() {
            match Reader::start() {
                Ok(reader) => self.python = Some(reader),
                Err(why) => warn!(pid, "containers are not read: {why}"),
            }
        }
        if let Some(reader) = &self.python {
            reader.watch(pid, start_ticks, python);
        }
    }

    /// Ends it.
    pub(in crate::source) fn forget_python(&mut self, pid: u32) {
        if let Some(reader) = &self.python {
            reader.forget(pid);
        }
    }

    /// The requests of a target are not seen, or are again.
    pub(in crate::source) fn rest_python(&mut self, pid: u32, resting: bool) {
        if let Some(reader) = &self.python {
            reader.rest(pid, resting);
        }
    }

    /// Hands on what was read meanwhile.
    pub(in crate::source) fn read_python(&mut self, sink: &mut Sink<'_>) {
        let Some(reader) = &self.python else { return };
        for (pid, reading) in reader.readings() {
            let Some(watched) = self.watched.get_mut(&pid) else {
                continue;
            };
            match reading {
                Reading::Census(mut census) => {
                    if let Some(stacks) = &watched.python {
                        for one in &mut census.containers {
                            stacks.name_fillers(one);
                        }
                    }
                    sink(pid, Observation::Census(census));
                }
                Reading::Lengths(lengths) => sink(pid, Observation::Lengths(lengths)),
                Reading::GivenUp(why) => {
                    info!(pid, "{why}");
                    let info = &mut watched.target.info;
                    info.limitations.push(why.to_string());
                    sink(pid, Observation::Target(now(), info.clone()));
                }
            }
        }
    }
}
