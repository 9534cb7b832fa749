//! Attached processes by target, kept in sync with the running processes.

mod attach;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use tracing::{debug, error, info, warn};

use super::backoff::Backoff;
use super::reload;
use super::scan;
use super::select::{self, Identity, Selected};
use super::standing::{self, Found};
use super::state::State;
use crate::config::Config;
use crate::observe::SourceError;
use crate::outputs::alerts::{Alerts, log_verdict};
use crate::outputs::metrics::{Counts, Declared, Metrics, Standing};
use crate::session::Session;
use crate::settings::SettingsError;
use heaptide_judge::report::{Report, Verdict};
use heaptide_process::ending;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The kernel programs.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Settings of the kernel programs.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// What was logged about a target.
struct Told {
    alerts: Alerts,
    verdict: Option<Verdict>,
}

/// A process that cannot be observed.
struct Failing {
    target: String,
    /// The reason as a label.
    reason: &'static str,
    /// The reason as a message.
    why: String,
}

/// All attached processes.
pub struct Observer {
    config: Config,
    metrics: Metrics,
    /// The session of all targets, after the kernel programs are loaded.
    session: Option<Session>,
    observed: BTreeMap<u32, Selected>,
    /// By target, so that a replaced worker is no reason to log a finding again.
    told: BTreeMap<String, Told>,
    attaching: Backoff<Identity>,
    loading: Backoff<()>,
    /// What is kept across restarts.
    state: State,
    /// Number of processes above the limit at the last scan.
    left_out: usize,
    /// Processes that match a target and cannot be observed.
    failing: BTreeMap<Identity, Failing>,
    /// Why nothing can be observed.
    obstacle: Option<String>,
    /// What was logged and exported about all of it.
    standing: Standing,
}

impl Observer {
    /// Starts without attached processes.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        declare(&metrics, &config);
        Self {
            state: State::load(config.agent.state.as_deref()),
            config,
            metrics,
            session: None,
            observed: BTreeMap::new(),
            told: BTreeMap::new(),
            attaching: Backoff::new(),
            loading: Backoff::new(),
            left_out: 0,
            failing: BTreeMap::new(),
            obstacle: None,
            standing: Standing::default(),
        }
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration. Processes of a target with changed settings are attached again at the next scan;
    /// those of other targets keep their state.
    pub fn reconfigure(&mut self, new: Config) {
        let observed = self.observed.iter();
        let changed: Vec<u32> = observed
            .filter(|(_, one)| reload::is_changed(&self.config, &new, &one.target))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in changed {
            self.detach(pid, "its configuration has changed");
        }
        declare(&self.metrics, &new);
        self.told
            .retain(|name, _| new.targets.iter().any(|target| target.name == *name));
        self.config = new;
        self.attaching.retain(|_| false);
        self.failing.clear();
    }

    /// Scans the running processes, and attaches and detaches accordingly.
    pub fn scan(&mut self) {
        self.load_again();
        if self.session.is_none() {
            self.stand(&[], &[]);
            return;
        }
        let seen = match scan::scan(Path::new("/proc")) {
            Ok(seen) => seen,
            Err(why) => {
                error!("cannot list processes: {why}");
                self.obstacle = Some(format!("cannot list processes: {why}"));
                self.stand(&[], &[]);
                return;
            }
        };
        self.obstacle = None;
        self.sweep();
        self.state.retain(|identity| {
            seen.iter().any(|process| {
                (process.pid, process.start_ticks) == (identity.pid, identity.start_ticks)
            })
        });
        let wanted = select::select(&self.config.targets, &seen, std::process::id());
        self.adopt(&wanted, |pid| seen.iter().any(|process| process.pid == pid));
        let current: Vec<Selected> = self.observed.values().cloned().collect();
        let changes = select::reconcile(&current, &wanted, self.config.agent.max_processes);
        for one in &changes.detach {
            self.detach(one.identity.pid, "it is no longer selected");
        }
        self.attaching
            .retain(|identity| wanted.iter().any(|one| one.identity == *identity));
        self.failing
            .retain(|identity, _| wanted.iter().any(|one| one.identity == *identity));
        for one in &changes.attach {
            if ending::is_asked() {
                break;
            }
            if self.attaching.is_due(&one.identity, Instant::now()) {
                self.attach(one);
                // An attach may take a second.
                self.stand(&wanted, &changes.left_out);
            }
        }
        self.stand(&wanted, &changes.left_out);
        let left_out = changes.left_out.len();
        if left_out > 0 && left_out != self.left_out {
            let most = self.config.agent.max_processes;
            warn!(left_out, max_processes = most, "too many processes match");
        }
        self.left_out = left_out;
    }

    /// Publishes whether heaptide works and observes anything, and what it does not observe; logs a change.
    fn stand(&mut self, wanted: &[Selected], left_out: &[Selected]) {
        let names: Vec<&str> = self.config.targets.iter().map(|one| &*one.name).collect();
        let mut failures = self.failing.values();
        let found = Found {
            targets: &names,
            obstacle: self.obstacle.as_deref(),
            matching: wanted.len(),
            observed: self.observed.len(),
            failure: failures.next().map(|failing| &*failing.why),
        };
        let standing = standing::standing(&found);
        if standing != self.standing {
            match &standing.idle {
                Some(idle) => warn!("{idle}"),
                None if self.standing.idle.is_some() => {
                    info!(
                        processes = self.observed.len(),
                        "ready: processes are observed"
                    );
                }
                None => {}
            }
            self.standing = standing.clone();
        }
        self.metrics.set_standing(standing);
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        for one in self.observed.values() {
            counts.entry(one.target.clone()).or_default().observed += 1;
        }
        for failing in self.failing.values() {
            let of_target = counts.entry(failing.target.clone()).or_default();
            *of_target.failing.entry(failing.reason).or_default() += 1;
        }
        for one in left_out {
            counts.entry(one.target.clone()).or_default().left_out += 1;
        }
        self.metrics.set_counts(counts);
    }

    /// Adds processes that the session follows by itself (forked children), and detaches from those that match no
    /// target: helpers that run another program.
    fn adopt(&mut self, wanted: &[Selected], was_seen: impl Fn(u32) -> bool) {
        let followed = self.session.as_ref().map(Session::pids);
        for pid in followed.unwrap_or_default() {
            if self.observed.contains_key(&pid) {
                continue;
            }
            let room = self.observed.len() < self.config.agent.max_processes;
            match wanted
                .iter()
                .find(|one| one.identity.pid == pid)
                .filter(|_| room)
            {
                Some(one) => self.observes(one.clone()),
                None if was_seen(pid) => {
                    debug!(pid, "a child matches no target and is no longer observed");
                    if let Some(session) = &mut self.session {
                        session.detach(pid);
                    }
                }
                // Started after the scan; the next one includes it.
                None => {}
            }
        }
    }

    /// Processes events. Returns whether anything is observed.
    pub fn step(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        if let Err(why) = session.step() {
            error!("observation failed and restarts: {why}");
            self.drop_session();
        }
        self.session.is_some()
    }

    /// Publishes the reports: metrics, alerts, changed verdicts.
    pub fn report(&mut self) {
        let Self {
            observed,
            told,
            session: Some(session),
            metrics,
            state,
            ..
        } = self
        else {
            return;
        };
        let mut reports: BTreeMap<String, Vec<Report>> = BTreeMap::new();
        for (pid, one) in &*observed {
            if let Some(plateaus) = session.plateaus(*pid) {
                state.set_plateaus(&one.target, plateaus);
            }
            if let Some(findings) = session.to_remember(*pid) {
                state.set_findings(one.identity, findings);
            }
            let of_target = reports.entry(one.target.clone()).or_default();
            of_target.extend(session.report(*pid));
        }
        metrics.publish(reports);
        for (target, report) in metrics.reports() {
            let told = told.entry(target.clone()).or_insert_with(|| Told {
                alerts: Alerts::new(&target),
                verdict: None,
            });
            for alert in told.alerts.update(&report) {
                alert.log();
                metrics.count_alert(&alert);
            }
            if told.verdict != Some(report.verdict) {
                told.verdict = Some(report.verdict);
                log_verdict(&target, &report);
            }
        }
        state.save();
    }

    /// Drops processes that have ended, after their last report.
    fn sweep(&mut self) {
        let session = self.session.as_ref();
        let ended: Vec<u32> = self
            .observed
            .keys()
            .copied()
            .filter(|pid| session.is_none_or(|session| session.ended(*pid)))
            .collect();
        if !ended.is_empty() {
            self.report();
        }
        for pid in ended {
            self.detach(pid, "it has ended");
        }
        if let Some(session) = &mut self.session {
            for pid in session.pids() {
                if !self.observed.contains_key(&pid) && session.ended(pid) {
                    session.detach(pid);
                }
            }
        }
    }

    fn detach(&mut self, pid: u32, why: &str) {
        let Some(one) = self.observed.remove(&pid) else {
            return;
        };
        if let Some(session) = &mut self.session {
            session.detach(pid);
        }
        self.metrics.remove(pid);
        info!(service = one.target, pid, "no longer observed: {why}");
    }

    fn observes(&mut self, selected: Selected) {
        info!(
            service = selected.target,
            pid = selected.identity.pid,
            exe = selected.exe,
            "observed"
        );
        let plateaus = self.state.plateaus(&selected.target);
        let findings = self.state.findings(selected.identity);
        if let Some(session) = &mut self.session {
            session.learn(selected.identity.pid, &plateaus, findings);
        }
        self.observed.insert(selected.identity.pid, selected);
    }
}

/// Tells the metrics which targets there are.
fn declare(metrics: &Metrics, config: &Config) {
    let targets = config.targets.iter().map(|target| Declared {
        name: target.name.clone(),
        budget: config.budget_of(target),
    });
    metrics.declare(targets.collect(), config.agent.process_metrics);
}
