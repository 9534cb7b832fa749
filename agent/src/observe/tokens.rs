//! The search for tokens of finished requests: goes on, and what it found is handed on.

use heaptide_judge::events::Observation;
use heaptide_process::clocks::now;
use tracing::debug;

use super::host::{Host, Sink};

/// A first search that was refused is not tried again.
const SAID: &str = "it is unknown whether tokens stay in memory";

/// Searches on, and says what was found. To be called every second.
pub(super) fn search(host: &mut Host, sink: &mut Sink<'_>) {
    let Some(searches) = &mut host.searches else {
        return;
    };
    match searches.step(now()) {
        Some((pid, Ok(residency))) if !residency.ages.is_empty() => {
            sink(pid, Observation::Residency(residency));
        }
        None | Some((_, Ok(_))) => {}
        Some((pid, Err(why))) => {
            let Some(attached) = host.attached.get_mut(&pid) else {
                return;
            };
            if attached.ended || !attached.target.is_alive() {
                return;
            }
            debug!(pid, "residency: {why}");
            let info = &mut attached.target.info;
            info.limitations.push(format!("{SAID}: {why}"));
            sink(pid, Observation::Target(now(), info.clone()));
        }
    }
}
