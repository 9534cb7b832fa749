//! What the daemon keeps across restarts, in a small JSON file without tokens: learned plateaus of each service, and
//! confirmed findings of processes that still run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::select::Identity;
use heaptide_judge::capture::own_file::{self, OwnFile};
use heaptide_judge::pipeline::{Plateaus, Remembered};

/// Maximum size of the file.
const LARGEST: u64 = 4 << 20;
/// Maximum number of processes with findings.
const MOST_PROCESSES: usize = 256;
/// Interval at which figures of known findings are written again.
const REFRESH: Duration = Duration::from_secs(60);

/// What is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    plateaus: BTreeMap<String, Plateaus>,
    #[serde(default)]
    processes: Vec<Process>,
}

/// The findings of one process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Process {
    /// Identifies the boot that `start_ticks` refers to.
    boot: String,
    pid: u32,
    start_ticks: u64,
    findings: Vec<Remembered>,
}

/// The state of the daemon, and its file.
#[derive(Debug, Default)]
pub(super) struct State {
    path: Option<PathBuf>,
    boot: String,
    kept: Kept,
    changed: bool,
    /// When figures of known findings are written again.
    refresh: Option<Instant>,
}

impl State {
    /// Reads `path`; an unreadable file is logged and ignored.
    pub(super) fn load(path: Option<&Path>) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut state = Self {
            path: path.map(Path::to_owned),
            boot: boot.trim().to_owned(),
            ..Self::default()
        };
        let Some(path) = path else {
            return state;
        };
        match read(path) {
            Ok(kept) => {
                let (services, processes) = (kept.plateaus.len(), kept.processes.len());
                info!(services, processes, state = %path.display(), "the state was read");
                state.kept = kept;
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => warn!(state = %path.display(), "the state is discarded: {why}"),
        }
        state
    }

    /// The plateaus of a service.
    pub(super) fn plateaus(&self, service: &str) -> Plateaus {
        self.kept.plateaus.get(service).cloned().unwrap_or_default()
    }

    /// Sets the plateaus that a process of a service has learned.
    pub(super) fn set_plateaus(&mut self, service: &str, plateaus: &Plateaus) {
        if self.path.is_some() && self.kept.plateaus.get(service) != Some(plateaus) {
            self.kept
                .plateaus
                .insert(service.to_owned(), plateaus.clone());
            self.changed = true;
        }
    }

    /// The confirmed findings of a process in an earlier observation.
    pub(super) fn findings(&self, identity: Identity) -> Vec<Remembered> {
        let known = self
            .kept
            .processes
            .iter()
            .find(|one| self.is(one, identity));
        known.map(|one| one.findings.clone()).unwrap_or_default()
    }

    /// Sets the confirmed findings of a process. Figures of findings that are known already are written once a minute.
    pub(super) fn set_findings(&mut self, identity: Identity, findings: Vec<Remembered>) {
        let boot = &self.boot;
        let at = self
            .kept
            .processes
            .iter()
            .position(|one| is(one, boot, identity));
        match at {
            Some(at) if findings.is_empty() => {
                self.kept.processes.remove(at);
                self.changed = true;
            }
            Some(at) => {
                let known = &mut self.kept.processes[at].findings;
                let same = known.len() == findings.len()
                    && known.iter().zip(&findings).all(|(a, b)| {
                        (&a.finding.route, a.finding.cause) == (&b.finding.route, b.finding.cause)
                    });
                self.changed |= !same;
                *known = findings;
            }
            None if !findings.is_empty() && self.kept.processes.len() < MOST_PROCESSES => {
                self.kept.processes.push(Process {
                    boot: boot.clone(),
                    pid: identity.pid,
                    start_ticks: identity.start_ticks,
                    findings,
                });
                self.changed = true;
            }
            None => {}
        }
    }

    /// Forgets the processes that no longer run.
    pub(super) fn retain(&mut self, runs: impl Fn(Identity) -> bool) {
        let before = self.kept.processes.len();
        let boot = &self.boot;
        self.kept.processes.retain(|one| {
            let identity = Identity {
                pid: one.pid,
                start_ticks: one.start_ticks,
            };
            one.boot == *boot && runs(identity)
        });
        self.changed |= self.kept.processes.len() != before;
    }

    /// Writes it if it has changed: to a new file first, so that a crash leaves one complete file.
    pub(super) fn save(&mut self) {
        let now = Instant::now();
        let stale = !self.kept.processes.is_empty() && self.refresh.is_none_or(|at| now >= at);
        let Some(path) = self.path.as_deref().filter(|_| self.changed || stale) else {
            return;
        };
        self.refresh = Some(now + REFRESH);
        match write(path, &self.kept) {
            Ok(()) => self.changed = false,
            Err(why) => warn!(state = %path.display(), "the state cannot be saved: {why}"),
        }
    }

    fn is(&self, one: &Process, identity: Identity) -> bool {
        is(one, &self.boot, identity)
    }
}

fn is(one: &Process, boot: &str, identity: Identity) -> bool {
    one.boot == boot && (one.pid, one.start_ticks) == (identity.pid, identity.start_ticks)
}

fn read(path: &Path) -> io::Result<Kept> {
    serde_json::from_slice(&own_file::read(path, LARGEST)?).map_err(io::Error::from)
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_vec(kept)?;
    if text.len() as u64 > LARGEST {
        // It could not be read again.
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} bytes; at most {LARGEST} are read", text.len()),
        ));
    }
    let mut new = OwnFile::create(path)?;
    new.file.write_all(&text)?;
    new.file.sync_all()?;
    new.publish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn it_survives_and_a_broken_file_does_no_harm() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/state.json");
        let plateaus: Plateaus =
            serde_json::from_str(r#"{"GET /a, cache": {"holders": 40.0, "bytes": 4000.0}}"#)
                .expect("plateaus");
        let mut store = State::load(Some(&path));
        store.set_plateaus("api", &plateaus);
        store.save();
        assert_eq!(State::load(Some(&path)).plateaus("api"), plateaus);
        assert!(State::load(Some(&path)).plateaus("other").is_empty());
        fs::write(&path, "{").expect("space");
        assert!(State::load(Some(&path)).plateaus("api").is_empty());
        assert!(State::load(None).plateaus("api").is_empty());
    }

    #[test]
    fn it_is_its_owners_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state.json");
        let plateaus: Plateaus =
            serde_json::from_str(r#"{"GET /a, cache": {"holders": 40.0, "bytes": 4000.0}}"#)
                .expect("plateaus");
        let saved = || {
            let mut state = State::load(Some(&path));
            state.set_plateaus("api", &plateaus);
            state.save();
        };
        saved();
        let mode = fs::metadata(&path).expect("the state").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);

        let victim = folder.path().join("victim");
        fs::rename(&path, &victim).expect("renamed");
        let before = fs::read(&victim).expect("the victim");
        symlink(&victim, &path).expect("a link");
        assert!(
            State::load(Some(&path)).plateaus("api").is_empty(),
            "read by a link"
        );
        fs::write(&victim, "{}").expect("written");
        saved();
        assert_eq!(fs::read(&victim).expect("the victim"), b"{}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2);

        // Not a regular file, or too large.
        fs::remove_file(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("a FIFO");
        assert!(State::load(Some(&path)).plateaus("api").is_empty());
        fs::remove_file(&path).expect("removed");
        let mut large = before;
        large.resize(LARGEST as usize + 1, b' ');
        fs::write(&path, large).expect("written");
        assert!(State::load(Some(&path)).plateaus("api").is_empty());
    }

    #[test]
    fn findings_are_those_of_a_process_that_still_runs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state.json");
        let report = heaptide_judge::fixtures::leak();
        let findings = vec![Remembered {
            finding: report.findings[0].clone(),
            anonymous_bytes: 50 << 20,
        }];
        let one = Identity {
            pid: 12,
            start_ticks: 345,
        };
        let later = Identity {
            start_ticks: 346,
            ..one
        };
        let mut state = State::load(Some(&path));
        state.set_findings(one, findings.clone());
        state.save();
        let mut state = State::load(Some(&path));
        assert_eq!(state.findings(one), findings);
        assert!(state.findings(later).is_empty(), "the pid was used again");
        state.retain(|identity| identity == one);
        assert_eq!(state.findings(one), findings);
        state.kept.processes[0].boot = "another".to_owned();
        assert!(state.findings(one).is_empty(), "the host was booted again");
        state.retain(|_| true);
        state.save();
        assert!(State::load(Some(&path)).kept.processes.is_empty());
    }
}
