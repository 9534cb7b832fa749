//! Growth signals: levels over time that are read without allocator probes. Pure and bounded.
//!
//! A growth signal is a container of a census, a collector's heap, a site of a runtime's own profile, or
//! the process's memory. Its levels are read at the times of its [`Family`]. For each of these times the
//! [`clock`] has the number of ended requests by route and token class. Findings relate the two.

pub mod clock;
pub mod family;
pub mod key;
pub mod length_samples;
pub mod marks;
pub mod stack_requests;

use std::collections::VecDeque;

use crate::attribution::Attribution;
use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::attribution::sites::LeadingFrameId;
use crate::events::{
    Census, Container, Faults, GOROUTINES, HeapMark, INSTANCES, Lengths, MemorySample, Nanos,
    Profile, Request, SiteId,
};

pub use self::key::{About, SignalKey};

use self::clock::Clock;
use self::family::{Family, Level};
use self::length_samples::LengthSamples;
use self::marks::Marks;
use self::stack_requests::StackRequests;

/// Delay of a reading, seconds: records of requests arrive shortly after their end.
const SETTLED_SECONDS: f64 = 1.0;
/// Maximum number of delayed readings.
const MOST_WAITING: usize = 64;
/// Minimum seconds between two levels of the process's memory.
const PROCESS_SECONDS: f64 = 2.5;

/// A reading that is delayed until the request records of its time have arrived.
#[derive(Clone, Debug)]
struct Waiting {
    at: Nanos,
    /// Index in [`Signals::families`].
    family: usize,
    levels: Vec<(SignalKey, Level, About)>,
    /// Whether the reading is complete: then a missing signal is gone.
    whole: bool,
}

/// Indices of families.
const CENSUS: usize = 0;
const PROFILE: usize = 1;
const HEAP: usize = 2;
const FAULTS: usize = 3;
const PROCESS: usize = 4;
const OF_CLASSES: usize = 5;

/// All growth signals of one target.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    clock: Clock,
    families: [Family; 6],
    waiting: VecDeque<Waiting>,
    /// Length samples of containers.
    pub length_samples: LengthSamples,
    waiting_lengths: VecDeque<Lengths>,
    heap: Marks,
    /// Stack-attributed requests.
    pub stack_requests: StackRequests,
    /// Resident anonymous bytes, first and last.
    anonymous: Option<(u64, u64)>,
    last_faults: Option<Nanos>,
    last_process: Option<Nanos>,
    censuses: u64,
    cut_censuses: u64,
}

impl Signals {
    /// A request ended.
    pub fn request(&mut self, request: &Request, route: RouteId, class: Class) {
        self.clock
            .request(request.end, route, class, request.body_bytes);
    }

    /// Requests are no longer traced.
    pub fn blind(&mut self, at: Nanos) {
        self.clock.blind(at);
    }

    /// Requests are traced, and their token classes known, from `at` on.
    pub fn seen(&mut self, at: Nanos) {
        self.clock.seen(at);
        // Samples before and after the pause are not adjacent.
        self.length_samples = LengthSamples::default();
    }

    /// Takes a census.
    pub fn census(&mut self, census: &Census) {
        self.censuses += 1;
        self.cut_censuses += u64::from(census.cut);
        let (instances, containers): (Vec<_>, Vec<_>) = census
            .containers
            .iter()
            .partition(|container| container.kind == INSTANCES);
        let levels = |of: Vec<&Container>| of.into_iter().map(of_container).collect();
        self.wait(census.at, CENSUS, levels(containers), !census.cut);
        if !instances.is_empty() {
            self.wait(
                census.instances_at,
                OF_CLASSES,
                levels(instances),
                !census.cut,
            );
        }
    }

    /// Takes length samples.
    pub fn lengths(&mut self, lengths: &Lengths) {
        if self.waiting_lengths.len() < MOST_WAITING {
            self.waiting_lengths.push_back(lengths.clone());
        }
    }

    /// Takes a runtime's profile. Sites with the same leading frame are one signal.
    pub fn profile(&mut self, profile: &Profile, attribution: &Attribution) {
        let mut by_leading_frame: std::collections::BTreeMap<
            LeadingFrameId,
            (u64, u64, (SiteId, u64)),
        > = std::collections::BTreeMap::new();
        for one in &profile.sites {
            let sums = by_leading_frame
                .entry(attribution.sites.leading(one.site))
                .or_insert((0, 0, (one.site, 0)));
            sums.0 += one.bytes;
            sums.1 += one.objects;
            if one.bytes > sums.2.1 {
                sums.2 = (one.site, one.bytes);
            }
        }
        let levels = by_leading_frame
            .into_iter()
            .map(|(leading, (bytes, _, site))| {
                let about = About {
                    site: Some(site),
                    ..About::default()
                };
                (
                    SignalKey::Site(leading),
                    Level::of(bytes as f64, Some(bytes as f64)),
                    about,
                )
            })
            .collect();
        self.wait(profile.at, PROFILE, levels, true);
    }

    /// Takes a collector's heap. Only a new collection gives a level.
    pub fn heap(&mut self, mark: &HeapMark) {
        let Some(marks) = self.heap.take(mark) else {
            return;
        };
        let mut level = Level::of(marks.mean, Some(marks.mean));
        (level.low, level.high) = (marks.low, marks.high);
        let level = (SignalKey::Heap, level, About::default());
        self.wait(marks.at, HEAP, vec![level], true);
    }

    /// Takes page faults. Copied pages existed before, so they are not growth. Pages that were returned are
    /// not growth either: the level is at most the growth of the process.
    pub fn faults(&mut self, faults: &Faults) {
        self.stack_requests.faults(faults);
        if is_soon(&mut self.last_faults, faults.at) {
            return;
        }
        let grown = self
            .anonymous
            .map_or(0, |(first, last)| last.saturating_sub(first));
        let bytes = faults.fresh_bytes.min(grown) as f64;
        let level = (
            SignalKey::Faults,
            Level::of(bytes, Some(bytes)),
            About::default(),
        );
        self.wait(faults.at, FAULTS, vec![level], true);
    }

    /// Takes the process's memory.
    pub fn memory(&mut self, sample: &MemorySample) {
        let first = self.anonymous.map_or(sample.rss_anon, |(first, _)| first);
        self.anonymous = Some((first, sample.rss_anon));
        if is_soon(&mut self.last_process, sample.at) {
            return;
        }
        let bytes = sample.rss_anon as f64;
        let level = (
            SignalKey::Process,
            Level::of(bytes, Some(bytes)),
            About::default(),
        );
        self.wait(sample.at, PROCESS, vec![level], true);
    }

    /// Adds the delayed readings whose request records have arrived by `now`. Returns whether there were
    /// any.
    pub fn settle(&mut self, now: Nanos, attribution: &Attribution) -> bool {
        let mut any = false;
        while let Some(next) = self.waiting_lengths.front()
            && now.since(next.at) >= SETTLED_SECONDS
        {
            if self.clock.saw(next.at) {
                self.length_samples.take(next, &self.clock);
            }
            self.waiting_lengths.pop_front();
        }
        while let Some(next) = self
            .waiting
            .iter()
            .enumerate()
            .min_by_key(|(_, reading)| reading.at)
            .filter(|(_, reading)| now.since(reading.at) >= SETTLED_SECONDS)
            .map(|(index, _)| index)
        {
            any |= self.place(next);
        }
        if any {
            self.stack_requests.settle(now, attribution);
        }
        any
    }

    /// Forgets all levels, because the address space was replaced.
    pub fn forget(&mut self) {
        let clock = std::mem::take(&mut self.clock);
        *self = Self {
            clock,
            ..Self::default()
        };
    }

    /// All families with their signals.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The family of a signal.
    pub fn family(&self, key: &SignalKey) -> &Family {
        let index = match key {
            SignalKey::Container(_, kind) if kind == INSTANCES => OF_CLASSES,
            SignalKey::Container(..) => CENSUS,
            SignalKey::Site(_) => PROFILE,
            SignalKey::Heap => HEAP,
            SignalKey::Faults => FAULTS,
            SignalKey::Process => PROCESS,
        };
        &self.families[index]
    }

    /// Number of censuses, and number of those that were cut short.
    pub fn censuses(&self) -> (u64, u64) {
        (self.censuses, self.cut_censuses)
    }

    /// Whether the containers of the program are counted.
    pub fn counts_containers(&self) -> bool {
        let mut counted = self
            .family(&SignalKey::Container(String::new(), String::new()))
            .signals();
        counted.any(|(key, _)| !matches!(key, SignalKey::Container(_, kind) if kind == GOROUTINES))
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let families: usize = self.families.iter().map(Family::state_bytes).sum();
        families
            + self.clock.state_bytes()
            + self.length_samples.state_bytes()
            + self.stack_requests.state_bytes()
    }

    fn wait(
        &mut self,
        at: Nanos,
        family: usize,
        levels: Vec<(SignalKey, Level, About)>,
        whole: bool,
    ) {
        if self.waiting.len() >= MOST_WAITING {
            self.place(0);
        }
        self.waiting.push_back(Waiting {
            at,
            family,
            levels,
            whole,
        });
    }

    fn place(&mut self, index: usize) -> bool {
        let Some(reading) = self.waiting.remove(index) else {
            return false;
        };
        let counts = self.clock.at(reading.at);
        self.families[reading.family].push(reading.at, counts, reading.levels, reading.whole)
    }
}

fn of_container(container: &Container) -> (SignalKey, Level, About) {
    let about = About {
        writers: container.writers.clone(),
        known_as: container.known_as.clone(),
        site: None,
    };
    (
        SignalKey::Container(container.path.clone(), container.kind.clone()),
        Level::of(
            container.entries as f64,
            container.bytes.map(|bytes| bytes as f64),
        ),
        about,
    )
}

/// Whether `at` is too soon after the last time. If not, it becomes the last time.
fn is_soon(last: &mut Option<Nanos>, at: Nanos) -> bool {
    let soon = last.is_some_and(|last| at.since(last) < PROCESS_SECONDS);
    if !soon {
        *last = Some(at);
    }
    soon
}
