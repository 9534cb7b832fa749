//! The metrics of the agent and of every target, as `OpenMetrics` or Prometheus text.
//!
//! The series are built from the reports at each scrape, so an ended target has no series.

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

use self::samples::{Kind, OTHER, Samples, label};
use self::state::MetricsState;
use self::target::Target;
use super::OutputError;
use super::alerts::{Alert, Change};
use heaptide_judge::findings::service;
use heaptide_judge::report::Report;

/// Prefix of all names.
pub const PREFIX: &str = "heaptide_";
/// Maximum number of services whose alerts are counted by name. Others share `other`.
const SERVICES: usize = 200;

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

    /// Takes the newest report of a target. `service` is its configured name. Without a name the base name
    /// of its executable is used.
    pub fn update(&self, service: Option<&str>, report: &Report) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |d| d.as_secs_f64());
        let mut state = self.lock();
        state.agent = report.health;
        state
            .targets
            .entry(report.target.pid)
            .and_modify(|target| target.update(service, report, now))
            .or_insert_with(|| Target::new(service, report, now));
    }

    /// The newest report of each service; one for all processes of a service.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        let mut all: BTreeMap<String, Vec<Report>> = BTreeMap::new();
        for target in self.lock().targets.values() {
            let of_service = all.entry(target.service().to_owned()).or_default();
            of_service.push(target.report.clone());
        }
        let summed = all
            .into_iter()
            .filter_map(|(name, reports)| Some((name, service::sum(reports)?)));
        summed.collect()
    }

    /// Removes a target that ended or is no longer observed.
    pub fn remove(&self, pid: u32) {
        self.lock().targets.remove(&pid);
    }

    /// Counts an alert.
    pub fn count_alert(&self, alert: &Alert) {
        let mut state = self.lock();
        let mut key = (label(&alert.service), alert.change.name());
        if !state.alerts.contains_key(&key) && state.alerts.len() >= 3 * SERVICES {
            OTHER.clone_into(&mut key.0);
        }
        // All changes of a service start at 0 together, because `increase` ignores a first value of 1.
        for change in [Change::Suspect, Change::Confirmed, Change::Resolved] {
            state
                .alerts
                .entry((key.0.clone(), change.name()))
                .or_default();
        }
        *state.alerts.entry(key).or_default() += 1;
    }

    /// Counts a failed attempt to observe a process of `service`.
    pub fn count_attach_error(&self, service: &str) {
        let mut state = self.lock();
        let mut key = label(service);
        if !state.attach_errors.contains_key(&key) && state.attach_errors.len() >= SERVICES {
            OTHER.clone_into(&mut key);
        }
        *state.attach_errors.entry(key).or_default() += 1;
    }

    /// Counts a connection to the metrics server that was closed without a response.
    pub fn count_refused_connection(&self) {
        self.lock().refused_connections += 1;
    }

    /// Sets or clears the error that `/healthz` reports.
    pub fn set_unhealthy(&self, reason: Option<String>) {
        self.lock().unhealthy = reason;
    }

    /// The error that `/healthz` reports.
    pub fn unhealthy(&self) -> Option<String> {
        self.lock().unhealthy.clone()
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

/// All names of `/metrics` as queries use them (with `_total`), for dashboards and rules.
pub fn exported_names() -> Vec<String> {
    let agent = table::AGENT.iter().map(|metric| (metric.name, metric.kind));
    let target = table::TARGET
        .iter()
        .map(|metric| (metric.name, metric.kind));
    agent
        .chain(target)
        .map(|(name, kind)| match kind {
            Kind::Counter => format!("{PREFIX}{name}_total"),
            Kind::Gauge => format!("{PREFIX}{name}"),
        })
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
            encode_family(
                &mut encoder,
                metric.name,
                metric.help,
                metric.kind,
                &samples,
            )?;
        }
        for metric in table::TARGET {
            let mut samples = Samples::default();
            for target in state.targets.values() {
                samples.base = target.labels();
                (metric.samples)(target, &mut samples);
            }
            encode_family(
                &mut encoder,
                metric.name,
                metric.help,
                metric.kind,
                &samples,
            )?;
        }
        Ok(())
    }
}

fn encode_family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: Kind,
    samples: &Samples,
) -> Result<(), fmt::Error> {
    if samples.of.is_empty() {
        return Ok(());
    }
    let name = format!("{PREFIX}{name}");
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(&name, help, None, metric_type)?;
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
