//! Token residency: searches the private memory of each target periodically for the credentials of finished
//! requests. This needs no probe and no raw credential: the kernel programs and the search compute the same
//! keyed fingerprint (`heaptide_ebpf::tail`).

mod measure;
mod memory;
mod search;
mod tokens;
mod worker;

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use heaptide_ebpf::{Settings, tail::TailKey};
use tracing::{debug, warn};

use crate::decode::TokenWindow;
use heaptide_judge::events::{Fingerprint, Nanos, Residency, TokenStrings};
pub use measure::{Measured, measure};
pub use memory::MemoryError;
use search::Needle;
use tokens::Tokens;
pub(super) use worker::Text;
use worker::{Beginnings, Done, Job, Worker};

/// Average fraction of a core for the searches of all targets.
const SHARE: f64 = 0.01;
/// Minimum interval between two searches of one target.
const PAUSE: Duration = Duration::from_secs(5);
/// Minimum number of credentials for a search.
const LEAST: usize = 10;

/// The searches of all targets.
pub(super) struct Searches {
    key: TailKey,
    targets: HashMap<u32, Searched>,
    worker: Option<Worker>,
    /// The target being searched.
    busy: Option<u32>,
    /// Earliest time of the next search within the budget.
    rest_until: Instant,
}

/// One target.
struct Searched {
    text: Text,
    tokens: Tokens,
    /// How most tokens found in memory begin; fixed during a pass.
    beginning: Option<Needle>,
    /// Strings with that beginning that the present pass has found.
    strings: u64,
    /// How the tokens begin that the present pass has found.
    beginnings: Beginnings,
    pass: Option<Pass>,
    due: Instant,
    refused: bool,
}

impl Searched {
    /// What the pass says about strings that begin like tokens.
    fn strings_of(&self, is_whole: bool) -> TokenStrings {
        match self.beginning {
            _ if !is_whole => TokenStrings::Unknown,
            Some(beginning) => TokenStrings::Counted {
                beginning: beginning.fingerprint,
                count: self.strings,
            },
            None if self.beginnings.texts >= LEAST as u64
                && self.beginnings.usual(LEAST as u64).is_none() =>
            {
                TokenStrings::NotAlike
            }
            None => TokenStrings::Unknown,
        }
    }
}

/// One pass over the memory of a target, in one or more searches.
#[derive(Clone, Copy, Debug)]
struct Pass {
    since: Nanos,
    from: u64,
    bytes: u64,
    swapped: u64,
}

impl Searches {
    /// Starts without credentials.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            key: settings.tail_key,
            targets: HashMap::new(),
            worker: None,
            busy: None,
            rest_until: Instant::now(),
        }
    }

    /// A request of `pid` with this credential has ended.
    pub(super) fn ended(
        &mut self,
        pid: u32,
        text: Text,
        window: TokenWindow,
        whole: Fingerprint,
        at: Nanos,
    ) {
        let searched = self.targets.entry(pid).or_insert_with(|| Searched {
            text,
            tokens: Tokens::default(),
            beginning: None,
            strings: 0,
            beginnings: Beginnings::default(),
            pass: None,
            due: Instant::now(),
            refused: false,
        });
        if !searched.refused {
            searched.tokens.ended(window, whole, at);
        }
    }

    /// The memory of `pid` is gone or no longer of interest.
    pub(super) fn forget(&mut self, pid: u32) {
        self.targets.remove(&pid);
    }

    /// Takes the result of a finished search, and starts the next one that is due.
    pub(super) fn step(&mut self, now: Nanos) -> Option<(u32, Result<Residency, MemoryError>)> {
        let said = self.take(now);
        if self.busy.is_none() && Instant::now() >= self.rest_until {
            self.begin(now);
        }
        said
    }

    fn take(&mut self, now: Nanos) -> Option<(u32, Result<Residency, MemoryError>)> {
        let done = self.worker.as_ref()?.take()?;
        let busy = self.busy.take();
        self.rest_until = Instant::now() + done.cost.div_f64(SHARE);
        let searched = self.targets.get_mut(&done.pid)?;
        // It was dropped meanwhile: the process has other memory now.
        let pass = searched.pass.filter(|_| busy == Some(done.pid))?;
        let Done {
            pid,
            read,
            found,
            count,
            beginnings,
            cost,
        } = done;
        searched.due = Instant::now() + PAUSE;
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                searched.refused = true;
                searched.tokens = Tokens::default();
                return Some((pid, Err(why)));
            }
        };
        for fingerprint in found {
            searched.tokens.found(fingerprint);
        }
        searched.strings += count;
        searched.beginnings.merge(beginnings);
        let pass = Pass {
            bytes: pass.bytes + read.bytes,
            swapped: pass.swapped + read.swapped,
            from: read.resume.unwrap_or(0),
            ..pass
        };
        searched.pass = read.resume.map(|_| pass);
        debug!(
            pid,
            bytes = read.bytes,
            swapped = read.swapped,
            whole = read.resume.is_none(),
            cpu_ms = cost.as_millis() as u64,
            strings = searched.strings,
            "searched for tokens"
        );
        // If all are found and nothing is counted, the rest of the memory is irrelevant.
        let missing = !searched.tokens.wanted(pass.since).is_empty();
        if !missing && searched.beginning.is_none() {
            searched.pass = None;
        }
        let is_whole = read.resume.is_none() && pass.swapped == 0;
        let residency = Residency {
            at: now,
            scanned_bytes: pass.bytes,
            cut: missing && (read.resume.is_some() || pass.swapped > 0),
            ages: searched.tokens.ages(pass.since),
            sample: searched.tokens.sample(pass.since),
            strings: searched.strings_of(is_whole),
        };
        Some((pid, Ok(residency)))
    }

    /// Starts the search that has waited longest.
    fn begin(&mut self, now: Nanos) {
        let at = Instant::now();
        let due = self
            .targets
            .iter_mut()
            .filter(|(_, searched)| !searched.refused && searched.due <= at)
            .min_by_key(|(_, searched)| searched.due);
        let Some((pid, searched)) = due else { return };
        let pass = *searched.pass.get_or_insert_with(|| {
            searched.tokens.begin(now);
            // A tie between two beginnings must not change them with each pass.
            let usual = mem::take(&mut searched.beginnings).usual(LEAST as u64);
            searched.beginning = usual.or(searched.beginning);
            searched.strings = 0;
            Pass {
                since: now,
                from: 0,
                bytes: 0,
                swapped: 0,
            }
        });
        let needles = searched.tokens.wanted(pass.since);
        if needles.len() < LEAST && pass.from == 0 {
            searched.pass = None;
            searched.due = at + PAUSE;
            return;
        }
        let job = Job {
            pid: *pid,
            from: pass.from,
            text: searched.text,
            needles,
            beginning: searched.beginning,
        };
        if self.worker.is_none() {
            match Worker::start(self.key) {
                Ok(worker) => self.worker = Some(worker),
                Err(why) => {
                    warn!("cannot start the thread that searches for tokens: {why}");
                    searched.due = at + 10 * PAUSE;
                    return;
                }
            }
        }
        if self.worker.as_ref().is_some_and(|worker| worker.give(job)) {
            self.busy = Some(*pid);
        } else {
            self.worker = None;
        }
    }
}
