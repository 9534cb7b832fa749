//! The metrics of the agent and of every target, as `OpenMetrics` or Prometheus text.
//!
//! The series are built from the reports at each scrape, so an ended target has no series.

mod counted;
mod facts;
mod samples;
mod state;
mod table;
mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use self::facts::{Counts, Declared, Standing};
use self::samples::{Kind, OTHER, Samples, label};
use self::state::MetricsState;
use self::table::Metric;
use self::target::Target;
use super::OutputError;
use super::alerts::{Alert, Change};
use heaptide_judge::report::Report;

/// Prefix of all names.
pub const PREFIX: &str = "heaptide_";
/// Maximum number of targets whose alerts are counted by name. Others share `other`.
const TARGETS: usize = 200;

/// Content type of [`Metrics::openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`Metrics::prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state behind `/metrics` and `/healthz`. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    state: Arc<Mutex<MetricsState>>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// No targets yet.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(MetricsState::default()));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(StateCollector(state.clone())));
        Self {
            state,
            registry: Arc::new(registry),
        }
    }

    /// Sets the configured targets, which have series without a process too, and whether each process has series of
    /// its own.
    pub fn declare(&self, targets: Vec<Declared>, with_processes: bool) {
        let mut state = self.lock();
        state.declare(targets);
        state.with_processes = with_processes;
    }

    /// The configuration was loaded or loaded again; `whole`: all of it is in use.
    pub fn loaded(&self, whole: bool) {
        let mut state = self.lock();
        let loaded = state.loaded.get_or_insert_default();
        loaded.is_successful = whole;
        if whole {
            loaded.success_at = unix_time();
        }
    }

    /// Takes the newest reports of all processes, by target. A process without a report is gone.
    pub fn publish(&self, mut reports: BTreeMap<String, Vec<Report>>) {
        let now = unix_time();
        let mut state = self.lock();
        let newest = reports.values().flatten();
        let newest = newest.map(|report| report.health);
        if let Some(health) =
            newest.max_by(|a, b| a.agent_cpu_seconds.total_cmp(&b.agent_cpu_seconds))
        {
            state.agent = health;
        }
        for (name, target) in &mut state.targets {
            target.update(reports.remove(name).unwrap_or_default(), now);
        }
        for (name, reports) in reports {
            let target = state
                .targets
                .entry(name)
                .or_insert_with_key(|name| Target::new(name));
            target.update(reports, now);
        }
        state.drop_unused();
    }

    /// The newest report of each target that has a process; one for all its processes.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        let state = self.lock();
        let targets = state.targets.iter();
        targets
            .filter_map(|(name, target)| Some((name.clone(), target.sum.clone()?)))
            .collect()
    }

    /// Removes a process that ended or is no longer observed.
    pub fn remove(&self, pid: u32) {
        let mut state = self.lock();
        for target in state.targets.values_mut() {
            target.remove(pid);
        }
        state.drop_unused();
    }

    /// Counts an alert.
    pub fn count_alert(&self, alert: &Alert) {
        let mut state = self.lock();
        let mut key = (label(&alert.service), alert.change.name());
        if !state.alerts.contains_key(&key) && state.alerts.len() >= 3 * TARGETS {
            OTHER.clone_into(&mut key.0);
        }
        // All changes of a target start at 0 together, because `increase` ignores a first value of 1.
        for change in [Change::Suspect, Change::Confirmed, Change::Resolved] {
            state
                .alerts
                .entry((key.0.clone(), change.name()))
                .or_default();
        }
        *state.alerts.entry(key).or_default() += 1;
    }

    /// Counts a failed attempt to observe a process of `target`.
    pub fn count_attach_error(&self, target: &str, reason: &'static str) {
        let mut state = self.lock();
        let mut key = (label(target), reason);
        if !state.attach_errors.contains_key(&key) && state.attach_errors.len() >= TARGETS {
            OTHER.clone_into(&mut key.0);
        }
        *state.attach_errors.entry(key).or_default() += 1;
    }

    /// Counts a connection to the metrics server that was closed without a response.
    pub fn count_refused_connection(&self) {
        self.lock().refused_connections += 1;
    }

    /// Sets what `/healthz` and `/readyz` answer.
    pub fn set_standing(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    /// What `/healthz` and `/readyz` answer, and the number of observed processes.
    pub fn standing(&self) -> (Standing, u64) {
        let state = self.lock();
        (state.standing.clone(), state.processes())
    }

    /// Sets the processes of each target. Targets that are missing have none.
    pub fn set_counts(&self, mut counts: BTreeMap<String, Counts>) {
        let mut state = self.lock();
        for (name, target) in &mut state.targets {
            target.counts = Some(counts.remove(name).unwrap_or_default());
        }
    }

    /// All series in the `OpenMetrics` text format.
    pub fn openmetrics(&self) -> Result<String, OutputError> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).map_err(|error| OutputError::Encode {
            what: "the metrics",
            reason: error.to_string(),
        })?;
        Ok(text)
    }

    /// All series in the older Prometheus text format, for clients that ask for it (`promtool check
    /// metrics` among them). Here the formats differ only in the family names of counters.
    pub fn prometheus(&self) -> Result<String, OutputError> {
        let text = self.openmetrics()?;
        let lines: Vec<&str> = text.lines().collect();
        let counters: std::collections::BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
            .collect();
        let mut classic = String::with_capacity(text.len());
        for line in lines {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
                (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                    classic.extend(["# ", what, " ", name, "_total ", rest]);
                }
                _ => classic.push_str(line),
            }
            classic.push('\n');
        }
        Ok(classic)
    }

    fn lock(&self) -> MutexGuard<'_, MetricsState> {
        // Every change leaves the state consistent, so a poisoned lock is safe.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A metric as its documentation describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The name as queries use it (with `_total`).
    pub name: String,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its help text.
    pub help: &'static str,
}

/// All metrics of `/metrics`.
pub fn exported() -> Vec<Exported> {
    fn of<T>(table: &[Metric<T>]) -> impl Iterator<Item = Exported> {
        table.iter().map(|metric| {
            let (end, kind) = match metric.kind {
                Kind::Counter => ("_total", "counter"),
                Kind::Gauge => ("", "gauge"),
            };
            Exported {
                name: format!("{PREFIX}{}{end}", metric.name),
                kind,
                help: metric.help,
            }
        })
    }
    let agent = of(table::AGENT);
    agent
        .chain(of(table::TARGET))
        .chain(of(table::PROCESS))
        .collect()
}

#[derive(Debug)]
struct StateCollector(Arc<Mutex<MetricsState>>);

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in table::AGENT {
            let mut samples = Samples::default();
            (metric.samples)(&state, &mut samples);
            encode_family(&mut encoder, metric, &samples)?;
        }
        for metric in table::TARGET {
            let mut samples = Samples::default();
            for target in state.targets.values() {
                samples.base = vec![("target", target.name().to_owned())];
                (metric.samples)(target, &mut samples);
            }
            encode_family(&mut encoder, metric, &samples)?;
        }
        if !state.with_processes {
            return Ok(());
        }
        for metric in table::PROCESS {
            let mut samples = Samples::default();
            for target in state.targets.values() {
                for report in target.processes() {
                    samples.base = vec![
                        ("target", target.name().to_owned()),
                        ("pid", report.target.pid.to_string()),
                    ];
                    (metric.samples)(report, &mut samples);
                }
            }
            encode_family(&mut encoder, metric, &samples)?;
        }
        Ok(())
    }
}

fn encode_family<T>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric<T>,
    samples: &Samples,
) -> Result<(), fmt::Error> {
    if samples.of.is_empty() {
        return Ok(());
    }
    let kind = metric.kind;
    let name = format!("{PREFIX}{}", metric.name);
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(&name, metric.help, None, metric_type)?;
    for (labels, value) in &samples.of {
        if labels.is_empty() {
            encode_sample(&mut family, kind, *value)?;
        } else {
            encode_sample(&mut family.encode_family(labels)?, kind, *value)?;
        }
    }
    Ok(())
}

fn encode_sample(sample: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => sample.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => sample.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests;
