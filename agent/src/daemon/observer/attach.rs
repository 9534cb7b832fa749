//! Loading the kernel half and attaching to a process, with what the configuration says of its target.

use std::time::Instant;

use regex::Regex;
use tracing::{debug, error, warn};

use super::{DaemonError, Observer, credential_of};
use crate::config::{Config, Target};
use crate::daemon::select::Selected;
use crate::observe::{SourceError, SourceOptions, TargetOptions};
use crate::session::Session;
use crate::settings::{self, CAPACITY};
use crate::values::{Credential, Mode};
use heaptide_judge::pipeline::JudgeOptions;
use heaptide_process::ProcessError;

impl Observer {
    /// What the targets count as tokens, without repetition.
    pub(super) fn credentials(&self) -> Vec<Credential> {
        let mut credentials: Vec<_> = self.config.credentials().into_iter().cloned().collect();
        if credentials.is_empty() {
            // Without targets it is still found out now whether the kernel will do.
            credentials.push(self.config.agent.credential.clone());
        }
        credentials
    }

    /// Loads the kernel half for each credential that has none yet.
    pub fn load(&mut self) -> Result<(), DaemonError> {
        for credential in self.credentials() {
            if self.session(&credential).is_none() {
                let options = source_options(&self.config, &credential)?;
                let session = Session::new(options)?;
                self.sessions.push((credential, session));
            }
        }
        Ok(())
    }

    /// The same when it may fail: what is wrong, if anything.
    pub(super) fn load_again(&mut self) -> Option<String> {
        let now = Instant::now();
        if !self.loading.is_due(&(), now) {
            return self.metrics.unhealthy();
        }
        match self.load() {
            Ok(()) => {
                self.loading.worked(&());
                None
            }
            Err(why) => {
                let wait = self.loading.failed((), Instant::now());
                error!(
                    retry_in_seconds = wait.as_secs(),
                    "cannot load the kernel half: {why}"
                );
                Some(format!("the kernel half cannot be loaded: {why}"))
            }
        }
    }

    /// Ends a session that does not work; the next scan loads it again.
    pub(super) fn drop_session(&mut self, credential: &Credential) {
        let of_it = |one: &&super::Observed| one.credential == *credential;
        let pids: Vec<u32> = self
            .observed
            .values()
            .filter(of_it)
            .map(|one| one.selected.identity.pid)
            .collect();
        for pid in pids {
            self.detach(pid, "the kernel half is loaded anew");
        }
        self.sessions.retain(|(of, _)| of != credential);
        self.loading.failed((), Instant::now());
        let reason = "the kernel half did not work and is loaded anew; the log says why";
        self.metrics.set_unhealthy(Some(reason.to_owned()));
    }

    /// Attaches to a process; a failure is logged, counted and tried again later.
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
        let credential = credential_of(&self.config, target);
        let options = target_options(&self.config, target);
        let judge = JudgeOptions {
            memory_limit: target.memory_limit,
            expect_cache_entries: target.expect_cache,
            ..JudgeOptions::default()
        };
        let Some(session) = self.session(&credential) else {
            return;
        };
        let why = match session.attach_with(pid, options, judge) {
            Ok(()) => {
                self.attaching.worked(&one.identity);
                self.attach_error = None;
                self.observes(one.clone(), credential);
                return;
            }
            Err(why) => why,
        };
        let wait = self.attaching.failed(one.identity, Instant::now());
        if let SourceError::Target(
            ProcessError::NoSuchProcess { .. } | ProcessError::Ended { .. },
        ) = why
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
        self.metrics.count_attach_error(&one.target);
        self.attach_error = Some(why.to_string());
    }
}

fn mode_of(config: &Config, target: &Target) -> Mode {
    target.mode.unwrap_or(config.agent.mode)
}

fn target_options(config: &Config, target: &Target) -> TargetOptions {
    TargetOptions {
        allocations: mode_of(config, target).allocations(),
        automatic: mode_of(config, target).automatic(),
        budget: mode_of(config, target).budget(config.agent.overhead),
        // The configuration has tried them all.
        handlers: target
            .handlers
            .iter()
            .filter_map(|text| Regex::new(text).ok())
            .collect(),
        memory_limit: target.memory_limit,
        follow: target.follow_children,
    }
}

fn source_options(config: &Config, credential: &Credential) -> Result<SourceOptions, DaemonError> {
    let mut targets = config
        .targets
        .iter()
        .filter(|target| credential_of(config, target) == *credential);
    Ok(SourceOptions {
        settings: settings::settings(credential, CAPACITY)?,
        target: TargetOptions {
            // Without a target that needs it the cost of allocator probes is not measured.
            allocations: targets.any(|target| mode_of(config, target).allocations()),
            automatic: false,
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
