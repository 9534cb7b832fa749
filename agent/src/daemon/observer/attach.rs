//! Loads the kernel programs and attaches to processes with the settings of their targets.

use std::time::Instant;

use regex::Regex;
use tracing::{debug, error, warn};

use super::{DaemonError, Failing, Observer};
use crate::config::{Config, Target};
use crate::daemon::select::Selected;
use crate::observe::{SourceError, SourceOptions, TargetOptions};
use crate::session::Session;
use crate::settings::{self, CAPACITY, SettingsError};
use heaptide_judge::pipeline::JudgeOptions;
use heaptide_process::ProcessError;

impl Observer {
    /// Loads the kernel programs, unless they are loaded; even without targets, to find out whether the kernel is
    /// suitable.
    pub fn load(&mut self) -> Result<(), DaemonError> {
        if self.session.is_none() {
            self.session = Some(Session::new(source_options(&self.config)?)?);
        }
        Ok(())
    }

    /// Retries loading.
    pub(super) fn load_again(&mut self) {
        if !self.loading.is_due(&(), Instant::now()) {
            return;
        }
        match self.load() {
            Ok(()) => self.loading.worked(&()),
            Err(why) => {
                let wait = self.loading.failed((), Instant::now());
                error!(
                    retry_in_seconds = wait.as_secs(),
                    "cannot load the kernel programs: {why}"
                );
                self.obstacle = Some(format!("the kernel programs cannot be loaded: {why}"));
            }
        }
    }

    /// Ends a failed session; the next scan loads it again.
    pub(super) fn drop_session(&mut self) {
        let pids: Vec<u32> = self.observed.keys().copied().collect();
        for pid in pids {
            self.detach(pid, "the kernel programs are loaded again");
        }
        self.session = None;
        self.loading.failed((), Instant::now());
        let reason = "the kernel programs failed and are loaded again; see the log";
        self.obstacle = Some(reason.to_owned());
        self.stand(&[], &[]);
    }

    /// Attaches to a process; a failure is logged, counted and retried later.
    pub(super) fn attach(&mut self, one: &Selected) {
        let pid = one.identity.pid;
        let Some(target) = self
            .config
            .targets
            .iter()
            .find(|target| target.name == one.target)
        else {
            return;
        };
        let judge = JudgeOptions {
            memory_limit: target.memory_limit,
            expect_cache_entries: target.expect_cache,
            horizon_seconds: self.config.horizon_of(target).as_secs_f64(),
            ..JudgeOptions::default()
        };
        let Some(session) = &mut self.session else {
            return;
        };
        let attached = target_options(&self.config, target)
            .map_err(DaemonError::from)
            .and_then(|options| Ok(session.attach_with(pid, options, judge)?));
        let why = match attached {
            Ok(()) => {
                self.attaching.worked(&one.identity);
                self.failing.remove(&one.identity);
                self.observes(one.clone());
                return;
            }
            Err(why) => why,
        };
        let wait = self.attaching.failed(one.identity, Instant::now());
        if let DaemonError::Source(SourceError::Target(
            ProcessError::NoSuchProcess { .. } | ProcessError::Ended { .. },
        )) = why
        {
            debug!(service = one.target, pid, "not observed: {why}");
            return;
        }
        warn!(
            service = one.target,
            pid,
            retry_in_seconds = wait.as_secs(),
            "cannot be observed: {why}"
        );
        let reason = reason(&why);
        self.metrics.count_attach_error(&one.target, reason);
        let failing = Failing {
            target: one.target.clone(),
            reason,
            why: why.to_string(),
        };
        self.failing.insert(one.identity, failing);
    }
}

/// The reason of a failure as a label: one of few.
fn reason(why: &DaemonError) -> &'static str {
    match why {
        DaemonError::Source(source) => source.class(),
        DaemonError::Settings(_) => "settings",
    }
}

fn target_options(config: &Config, target: &Target) -> Result<TargetOptions, SettingsError> {
    Ok(TargetOptions {
        credential: settings::pattern(config.credential_of(target))?,
        allocations: config.mode_of(target).allocations(),
        automatic: config.mode_of(target).automatic(),
        at_once: false,
        budget: config.budget_of(target),
        // The configuration has validated all patterns.
        handlers: target
            .handlers
            .iter()
            .filter_map(|text| Regex::new(text).ok())
            .collect(),
        memory_limit: target.memory_limit,
        follow: target.follow_children,
    })
}

fn source_options(config: &Config) -> Result<SourceOptions, SettingsError> {
    let mut targets = config.targets.iter();
    Ok(SourceOptions {
        settings: settings::settings(CAPACITY)?,
        target: TargetOptions {
            credential: settings::pattern(&config.agent.credential)?,
            // A host that refuses allocator probes is an error only if a target needs them.
            allocations: targets.any(|target| config.mode_of(target).allocations()),
            automatic: false,
            at_once: false,
            budget: None,
            handlers: Vec::new(),
            memory_limit: None,
            follow: true,
        },
        enable_go_profile: false,
        stacks: true,
        residency: config.agent.residency,
    })
}
