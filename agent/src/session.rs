//! Source and judges together, for `attach` and the daemon.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::observe::{Observing, Outside, Source, SourceError, SourceOptions, TargetOptions};
use heaptide_judge::{
    events::{MemoryKind, Observation},
    findings::service,
    judged::Judged,
    pipeline::{JudgeOptions, Plateaus, Remembered},
    report::{Report, Verdict},
    stacks::LiveStacks,
};

/// Timeout of waiting for the ring in a step.
const TICK: Duration = Duration::from_millis(50);
/// Interval of reading memory and losses.
const SAMPLE: Duration = Duration::from_secs(1);
/// Maximum number of ended processes that are kept for the report of `attach`.
const MOST_ENDED: usize = 16;
/// Minimum number of requests that such a process has served, unless something was found in it.
const WORTH_KEEPING: u64 = 50;
/// Interval of reading the live map.
const SNAPSHOT: Duration = Duration::from_secs(2);

/// All observed processes.
pub struct Session {
    source: Box<dyn Observing>,
    judged: BTreeMap<u32, Judged>,
    sample_due: Instant,
    snapshot_due: Instant,
    tap: Option<Tap>,
}

/// Receives every observation, with its process, before the judge.
pub type Tap = Box<dyn FnMut(u32, &Observation) + Send>;

impl Session {
    /// Loads the kernel programs and measures the cost of their probes.
    pub fn new(options: SourceOptions) -> Result<Self, SourceError> {
        let mut source = Source::new(options)?;
        source.calibrate()?;
        Ok(Self::with(Box::new(source)))
    }

    /// A session without kernel programs, and `why` they cannot be used.
    pub fn outside(options: TargetOptions, why: &SourceError) -> Self {
        Self::with(Box::new(Outside::new(options, why)))
    }

    fn with(source: Box<dyn Observing>) -> Self {
        let now = Instant::now();
        Self {
            source,
            judged: BTreeMap::new(),
            sample_due: now,
            snapshot_due: now,
            tap: None,
        }
    }

    /// Sends every observation to `tap` too.
    pub fn set_tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Starts to observe a process and its children that run the same program.
    pub fn attach(&mut self, pid: u32, options: JudgeOptions) -> Result<(), SourceError> {
        let Self {
            source,
            judged,
            tap,
            ..
        } = self;
        judged.insert(pid, Judged::new(options));
        let mut sink = |pid, one| deliver(judged, tap, pid, one);
        let attached = source.attach(pid, &mut sink);
        match attached {
            Ok(()) => {
                source.follow_children(pid, &mut sink);
                self.adopt();
            }
            Err(_) => {
                judged.remove(&pid);
            }
        }
        attached
    }

    /// The same with options for this target.
    pub fn attach_with(
        &mut self,
        pid: u32,
        target: TargetOptions,
        options: JudgeOptions,
    ) -> Result<(), SourceError> {
        let Self {
            source,
            judged,
            tap,
            ..
        } = self;
        judged.insert(pid, Judged::new(options));
        let attached =
            source.attach_with(pid, target, &mut |pid, one| deliver(judged, tap, pid, one));
        if attached.is_err() {
            judged.remove(&pid);
        }
        attached
    }

    /// Ends the observation of a process.
    pub fn detach(&mut self, pid: u32) {
        self.source.detach(pid);
        self.judged.remove(&pid);
    }

    /// Ends the observation of processes that have ended, except `but`. Those in which something was found, and a few
    /// that served requests, are kept for the report. Returns the others.
    pub fn drop_ended(&mut self, but: u32) -> Vec<u32> {
        let mut kept = 0;
        let mut gone = Vec::new();
        for (pid, judged) in &self.judged {
            if *pid == but || !self.source.ended(*pid) {
                continue;
            }
            let report = judged.pipeline.report();
            let is_found = matches!(report.verdict, Verdict::Leak | Verdict::Suspect);
            let has_served = report.window.requests >= WORTH_KEEPING;
            if kept < MOST_ENDED && (is_found || has_served) {
                kept += 1;
            } else {
                gone.push(*pid);
            }
        }
        for pid in &gone {
            self.detach(*pid);
        }
        gone
    }

    /// Waits briefly and processes events. Called in a loop. Returns whether a snapshot was judged, so
    /// that reports may have changed.
    pub fn step(&mut self) -> Result<bool, SourceError> {
        self.source.wait(TICK);
        let Self {
            source,
            judged,
            tap,
            ..
        } = self;
        let mut sink = |pid, one| deliver(judged, tap, pid, one);
        source.pump(&mut sink);
        let now = Instant::now();
        if now >= self.sample_due {
            self.sample_due = now + SAMPLE;
            source.sample(&mut sink)?;
        }
        let read = now >= self.snapshot_due && source.snapshot(&mut sink)?;
        if read {
            self.snapshot_due = now + SNAPSHOT;
            for (pid, judged) in &self.judged {
                if self.source.wants_opinion(*pid) {
                    let opinion = judged.pipeline.opinion();
                    self.source.set_opinion(*pid, opinion);
                }
            }
        }
        self.adopt();
        Ok(read)
    }

    /// Followed children get their parent's options.
    fn adopt(&mut self) {
        for (child, parent) in self.source.take_followed() {
            let known = self.judged.get(&parent).map(|one| one.options);
            if let Some((child, options)) = self.judged.get_mut(&child).zip(known) {
                child.options = options;
                child.pipeline.set_options(options);
            }
        }
    }

    /// Processes all remaining events at the end.
    pub fn finish(&mut self) -> Result<(), SourceError> {
        let Self {
            source,
            judged,
            tap,
            ..
        } = self;
        let mut sink = |pid, one| deliver(judged, tap, pid, one);
        source.pump(&mut sink);
        source.snapshot_now(&mut sink)?;
        source.sample(&mut sink)?;
        self.adopt();
        Ok(())
    }

    /// The processes that are judged.
    pub fn pids(&self) -> Vec<u32> {
        self.judged.keys().copied().collect()
    }

    /// Whether a process has ended.
    pub fn ended(&self, pid: u32) -> bool {
        self.source.ended(pid)
    }

    /// Limitations of this host.
    pub fn limitations(&self) -> Vec<String> {
        self.source.limitations()
    }

    /// Passes the learned plateaus of a service, and the confirmed findings of an earlier observation of the process, to
    /// its judge.
    pub fn learn(&mut self, pid: u32, plateaus: &Plateaus, findings: Vec<Remembered>) {
        if let Some(judged) = self.judged.get_mut(&pid) {
            judged.pipeline.learn(plateaus);
            judged.pipeline.remember(findings);
        }
    }

    /// The confirmed findings of a process, for a later observation.
    pub fn to_remember(&self, pid: u32) -> Option<Vec<Remembered>> {
        Some(self.judged.get(&pid)?.pipeline.to_remember())
    }

    /// Learned plateaus of a process.
    pub fn plateaus(&self, pid: u32) -> Option<&Plateaus> {
        self.judged
            .get(&pid)
            .map(|judged| judged.pipeline.plateaus())
    }

    /// The report of a process.
    pub fn report(&self, pid: u32) -> Option<Report> {
        self.judged.get(&pid).map(|judged| judged.pipeline.report())
    }

    /// One report for all processes of a target: the worst verdict, among equals that of the busiest,
    /// with the figures of equal findings summed.
    pub fn worst(&self, pids: &[u32]) -> Option<Report> {
        service::sum(pids.iter().filter_map(|pid| self.report(*pid)).collect())
    }

    /// Live heap memory by call stack, as of the last snapshot.
    pub fn stacks(&self, pid: u32) -> LiveStacks {
        let judged = self.judged.get(&pid);
        judged.map(Judged::stacks).unwrap_or_default()
    }

    /// Live memory of a process by leading user frame, as one JSON object: tests compare it with a
    /// program's own counts.
    pub fn live_sites(&self, pid: u32) -> Option<serde_json::Value> {
        /// Function, file, line, kind.
        type Row = (String, Option<String>, Option<u32>, &'static str);

        let judged = self.judged.get(&pid)?;
        let mut rows: BTreeMap<Row, (f64, f64)> = BTreeMap::new();
        for group in &judged.last.groups {
            let site = judged.sites.get(&group.site)?;
            let frame = site.leading();
            let kind = match group.kind {
                MemoryKind::Heap => "heap",
                MemoryKind::Mapping => "mapping",
            };
            let key = (frame.function.clone(), frame.file.clone(), frame.line, kind);
            let sums = rows.entry(key).or_default();
            sums.0 += group.bytes;
            sums.1 += group.blocks;
        }
        let sites: Vec<_> = rows
            .into_iter()
            .map(|((function, file, line, kind), (bytes, blocks))| {
                json!({"function": function, "file": file, "line": line, "kind": kind,
                       "bytes": bytes.round() as u64, "blocks": blocks.round() as u64})
            })
            .collect();
        let losses = self.source.counters().ok();
        Some(json!({"pid": pid, "sites": sites, "losses": losses}))
    }
}

fn deliver(
    judged: &mut BTreeMap<u32, Judged>,
    tap: &mut Option<Tap>,
    pid: u32,
    observation: Observation,
) {
    // A new process here is a followed child; `adopt` sets its parent's options.
    let judged = judged
        .entry(pid)
        .or_insert_with(|| Judged::new(JudgeOptions::default()));
    if let Some(tap) = tap {
        tap(pid, &observation);
    }
    judged.observe(observation);
}
