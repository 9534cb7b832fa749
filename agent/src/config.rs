//! The daemon's configuration: a TOML file, validated completely; errors have line numbers.

mod limits;
mod suggest;
mod value;

use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use crate::values::{Credential, Mode};

/// Maximum size of a configuration; a larger file is a mistake (`/dev/zero`, a log).
const LARGEST: u64 = 1 << 20;

/// A valid configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Settings of the agent and defaults of all targets.
    #[serde(default)]
    pub agent: Agent,
    /// Services to observe; the first matching entry gets a process.
    #[serde(default, rename = "target")]
    pub targets: Vec<Target>,
}

/// `[agent]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Address of `/metrics` and `/healthz`.
    #[serde(deserialize_with = "value::listen_address")]
    pub metrics: SocketAddr,
    /// How allocations are traced.
    #[serde(deserialize_with = "value::mode")]
    pub mode: Mode,
    /// CPU time that probes may cost a target, as a ratio (`"3%"` in the file).
    #[serde(deserialize_with = "value::percent")]
    pub overhead: f64,
    /// How long memory must last for the verdict `no_leak`, at the largest growth that could have been missed.
    #[serde(deserialize_with = "value::duration")]
    pub horizon: Duration,
    /// The token of a request.
    #[serde(deserialize_with = "value::credential")]
    pub credential: Credential,
    /// Search the targets' memory for tokens of finished requests.
    pub residency: bool,
    /// Format of the log.
    pub log_format: LogFormat,
    /// What is logged (`info`, or a filter per module).
    pub log: String,
    /// Interval of looking for processes.
    #[serde(deserialize_with = "value::duration")]
    pub scan_interval: Duration,
    /// Interval of judging a target.
    #[serde(deserialize_with = "value::duration")]
    pub report_interval: Duration,
    /// Maximum number of processes observed at once; others are logged and ignored.
    pub max_processes: usize,
    /// Metrics of each process besides those of its target. Every new process makes new series.
    pub process_metrics: bool,
    /// File that keeps learned plateaus and confirmed findings across restarts; without it they are found anew.
    pub state: Option<PathBuf>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            metrics: SocketAddr::from(([127, 0, 0, 1], 9876)),
            mode: Mode::Auto,
            overhead: 0.03,
            horizon: Duration::from_secs(7 * 86_400),
            credential: Credential::Bearer,
            residency: true,
            log_format: LogFormat::Json,
            log: "info".to_owned(),
            scan_interval: Duration::from_secs(5),
            report_interval: Duration::from_secs(10),
            max_processes: 64,
            process_metrics: false,
            state: None,
        }
    }
}

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For humans.
    Text,
}

/// `[[target]]`: a service and the selectors of its processes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name of the service in metrics and logs.
    #[serde(deserialize_with = "value::service")]
    pub name: String,
    /// This process only.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Path of the executable, or its base name.
    #[serde(default)]
    pub exe: Option<String>,
    /// Name of the process as `ps` shows it (at most 15 bytes).
    #[serde(default)]
    pub comm: Option<String>,
    /// Regular expression for the command line, arguments joined by spaces.
    #[serde(default, deserialize_with = "value::regex")]
    pub cmdline: Option<Regex>,
    /// Control group, or one above it (`/system.slice/api.service`).
    #[serde(default)]
    pub cgroup: Option<String>,
    /// systemd unit, with or without `.service`.
    #[serde(default)]
    pub unit: Option<String>,
    /// Id of a container, or its first 12 digits or more.
    #[serde(default)]
    pub container: Option<String>,
    /// Whether forked workers of a matching process are observed too.
    #[serde(default = "yes")]
    pub follow_children: bool,
    /// Memory limit of each process, if lower than those of cgroup, rlimit and host.
    #[serde(default, deserialize_with = "value::bytes")]
    pub memory_limit: Option<u64>,
    /// Intended entries of a cache of the service.
    #[serde(default)]
    pub expect_cache: Option<u64>,
    /// How long memory must last for the verdict `no_leak`, if not as `[agent]` says.
    #[serde(default, deserialize_with = "value::optional_duration")]
    pub horizon: Option<Duration>,
    /// Functions that serve one request each: regular expressions for demangled names.
    #[serde(default, deserialize_with = "value::patterns")]
    pub handlers: Vec<String>,
    /// The token of a request, if different from `[agent]`.
    #[serde(default, deserialize_with = "value::optional_credential")]
    pub credential: Option<Credential>,
    /// How allocations are traced, if different from `[agent]`.
    #[serde(default, deserialize_with = "value::optional_mode")]
    pub mode: Option<Mode>,
}

fn yes() -> bool {
    true
}

/// An invalid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; {}", path.display(), read_advice(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Its contents are invalid.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
}

fn read_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "name an existing file with --config; docs/heaptide.example.toml is one to start from"
        }
        io::ErrorKind::PermissionDenied => "run as a user who may read it, usually root",
        io::ErrorKind::InvalidData => "a configuration must be TOML in UTF-8",
        _ => "name a TOML file with --config",
    }
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let wrong = || {
        let what = format!("not a regular file of at most {} KiB", LARGEST >> 10);
        read(io::Error::other(what))
    };
    // Opening a FIFO would block.
    if !fs::metadata(path).map_err(read)?.is_file() {
        return Err(wrong());
    }
    let file = fs::File::open(path).map_err(read)?;
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(read)?;
    if text.len() as u64 > LARGEST {
        return Err(wrong());
    }
    parse(&text, path)
}

/// Checks the text of a configuration; `path` is for messages.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let wrong = |line, message| ConfigError::Wrong {
        path: path.to_owned(),
        line,
        message,
    };
    let config: Config = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        wrong(line_of(text, start), suggest::message(error.message()))
    })?;
    // Checks across fields. The n-th `[[target]]` has the n-th header.
    let header = |index| {
        let headers = text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_target_header(line));
        headers.map(|(line, _)| line + 1).nth(index).unwrap_or(1)
    };
    for (index, target) in config.targets.iter().enumerate() {
        if let Err(message) = target.check() {
            return Err(wrong(header(index), message));
        }
        if config.targets[..index]
            .iter()
            .any(|earlier| earlier.name == target.name)
        {
            let message = format!(
                "two targets are named `{}`, but names identify services in metrics: choose \
                 another",
                target.name
            );
            return Err(wrong(header(index), message));
        }
    }
    if let Err((key, message)) = config.agent.check(config.targets.len()) {
        let found = text.lines().position(|line| {
            line.split('=')
                .next()
                .is_some_and(|name| name.trim() == key)
        });
        return Err(wrong(found.map_or(1, |line| line + 1), message));
    }
    Ok(config)
}

impl Config {
    /// The token of a target's requests.
    pub fn credential_of<'a>(&'a self, target: &'a Target) -> &'a Credential {
        target.credential.as_ref().unwrap_or(&self.agent.credential)
    }

    /// How allocations of a target are traced.
    pub fn mode_of(&self, target: &Target) -> Mode {
        target.mode.unwrap_or(self.agent.mode)
    }

    /// The overhead budget of a target.
    pub fn budget_of(&self, target: &Target) -> Option<f64> {
        self.mode_of(target).budget(self.agent.overhead)
    }

    /// How long memory of a target must last for the verdict `no_leak`.
    pub fn horizon_of(&self, target: &Target) -> Duration {
        target.horizon.unwrap_or(self.agent.horizon)
    }
}

impl Agent {
    fn check(&self, targets: usize) -> Result<(), (&'static str, String)> {
        limits::check(&limits::OfAgent {
            max_processes: self.max_processes,
            intervals: [
                ("scan_interval", self.scan_interval),
                ("report_interval", self.report_interval),
            ],
            log: &self.log,
            state: self.state.as_deref(),
            targets,
        })
    }
}

fn is_target_header(line: &str) -> bool {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    line.starts_with("[[target]]") || line.starts_with("[[\"target\"]]")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

impl Target {
    /// One line: the name, the selectors, and differences from `[agent]`.
    pub fn summary(&self) -> String {
        let cmdline = self.cmdline.as_ref().map(Regex::as_str);
        let parts = [
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("exe", self.exe.clone()),
            ("comm", self.comm.clone()),
            ("cmdline", cmdline.map(str::to_owned)),
            ("cgroup", self.cgroup.clone()),
            ("unit", self.unit.clone()),
            ("container", self.container.clone()),
            ("mode", self.mode.map(|mode| mode.name().to_owned())),
            (
                "memory_limit",
                self.memory_limit.map(|bytes| format!("{bytes} bytes")),
            ),
            (
                "expect_cache",
                self.expect_cache.map(|entries| entries.to_string()),
            ),
            (
                "credential",
                self.credential.as_ref().map(ToString::to_string),
            ),
        ];
        let parts = parts
            .iter()
            .filter_map(|(key, value)| Some(format!("{key} {}", value.as_ref()?)));
        let parts: Vec<String> = parts.collect();
        format!("{}: {}", self.name, parts.join(", "))
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let selectors = [
            self.pid.is_some(),
            self.exe.is_some(),
            self.comm.is_some(),
            self.cmdline.is_some(),
            self.cgroup.is_some(),
            self.unit.is_some(),
            self.container.is_some(),
        ];
        if !selectors.contains(&true) {
            return Err(format!(
                "target `{name}` selects no process; add at least one of pid, exe, comm, \
                 cmdline, cgroup, unit, container (all given ones must match)"
            ));
        }
        if self.pid == Some(0) {
            return Err(format!(
                "target `{name}`: pid 0 is the kernel's; name a process"
            ));
        }
        for (key, value) in [
            ("exe", &self.exe),
            ("comm", &self.comm),
            ("cgroup", &self.cgroup),
            ("unit", &self.unit),
            ("container", &self.container),
        ] {
            if value.as_ref().is_some_and(String::is_empty) {
                return Err(format!(
                    "target `{name}`: {key} is empty; set it or leave it out"
                ));
            }
        }
        // The kernel truncates the name of a process (TASK_COMM_LEN is 16, the last byte is 0).
        if let Some(comm) = self.comm.as_ref().filter(|comm| comm.len() > 15) {
            let cut: String = comm.chars().take(15).collect();
            return Err(format!(
                "target `{name}`: comm `{comm}` never matches, because Linux truncates names to \
                 15 bytes; write `{cut}`, or use exe or cmdline"
            ));
        }
        if let Some(cgroup) = self
            .cgroup
            .as_ref()
            .filter(|cgroup| !cgroup.starts_with('/'))
        {
            return Err(format!(
                "target `{name}`: cgroup `{cgroup}` is not an absolute path; write it as in \
                 /proc/PID/cgroup, such as /system.slice/{cgroup}"
            ));
        }
        let is_id = |id: &str| {
            (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if let Some(id) = self.container.as_ref().filter(|id| !is_id(id)) {
            return Err(format!(
                "target `{name}`: `{id}` is no container's id; write at least its first 12 hexadecimal digits"
            ));
        }
        if self.expect_cache == Some(0) {
            return Err(format!("target `{name}`: expect_cache is 0; leave it out"));
        }
        limits::check_target(&limits::OfTarget {
            name,
            pid: self.pid,
            cmdline: self.cmdline.as_ref(),
            selected: selectors != [false, false, false, true, false, false, false],
            expect_cache: self.expect_cache,
            memory_limit: self.memory_limit,
            handlers: self.handlers.len(),
        })
    }
}

#[cfg(test)]
mod tests;
