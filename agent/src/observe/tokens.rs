//! Drives the search for tokens of finished requests and reports its results.

use heaptide_judge::events::Observation;
use heaptide_process::clocks::now;
use tracing::debug;

use super::host::{Host, Sink};

/// If the first search is denied, there are no more.
const SAID: &str = "it is unknown whether tokens stay in memory";

/// Continues the search and reports results. Called every second.
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
