//! Alerts: one log line per change of a finding's state.

use std::collections::BTreeMap;

use super::format::{cause, site_location, verdict};
use super::text;
use heaptide_judge::report::{Cause, Finding, FindingState, Report, UNDECIDED, Verdict};

/// Consecutive reports without a finding after which it is resolved. A series near a gate must not cause
/// repeated alerts.
const RESOLVED_AFTER: u32 = 3;
/// Maximum number of findings per target, so that the state is bounded.
const REMEMBERED: usize = 256;

/// The change of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is suspected for the first time.
    Suspect,
    /// It is confirmed.
    Confirmed,
    /// It is resolved.
    Resolved,
}

impl Change {
    /// The word in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Confirmed => "confirmed",
            Self::Resolved => "resolved",
        }
    }
}

/// One change of one finding of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Process id.
    pub pid: u32,
    /// Service name.
    pub service: String,
    /// The change.
    pub change: Change,
    /// Route of the finding.
    pub route: String,
    /// Its cause.
    pub cause: Cause,
    /// `app.py:17`.
    pub location: String,
    /// The function there.
    pub function: String,
    /// How much it keeps.
    pub summary: String,
    /// Retained bytes.
    pub retained_bytes: u64,
    /// Seconds until the limit.
    pub time_to_oom_seconds: Option<f64>,
}

#[derive(Clone, Debug)]
struct Known {
    /// The highest state that was reported.
    told: FindingState,
    missing: u32,
    /// The last finding, for the line that reports it as resolved.
    alert: Alert,
}

/// The state machine of one target.
#[derive(Clone, Debug)]
pub struct Alerts {
    service: String,
    known: BTreeMap<(String, Cause), Known>,
}

impl Alerts {
    /// For a target known as `service`.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            known: BTreeMap::new(),
        }
    }

    /// The changes since the previous report. A confirmed finding that becomes suspect again is not a
    /// change. It is reported again only after it was resolved.
    pub fn update(&mut self, report: &Report) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut present: BTreeMap<(String, Cause), &Finding> = BTreeMap::new();
        for finding in report
            .findings
            .iter()
            .filter(|finding| finding.state > FindingState::None)
        {
            let shown = present
                .entry((finding.route.clone(), finding.cause))
                .or_insert(finding);
            if finding.state > shown.state {
                *shown = finding;
            }
        }
        for (key, finding) in &present {
            self.adopt_undecided(key, &present);
            let told = self
                .known
                .get(key)
                .map_or(FindingState::None, |known| known.told);
            if told == FindingState::None && self.known.len() >= REMEMBERED {
                continue;
            }
            let change = match finding.state {
                FindingState::Confirmed => Change::Confirmed,
                _ => Change::Suspect,
            };
            let alert = self.alert(report.target.pid, change, finding);
            if finding.state > told {
                alerts.push(alert.clone());
            }
            let known = Known {
                told: told.max(finding.state),
                missing: 0,
                alert,
            };
            self.known.insert(key.clone(), known);
        }
        // Insufficient evidence does not resolve earlier findings.
        if report.verdict != Verdict::InsufficientEvidence {
            self.known.retain(|key, known| {
                if present.contains_key(key) {
                    return true;
                }
                known.missing += 1;
                if known.missing < RESOLVED_AFTER {
                    return true;
                }
                alerts.push(Alert {
                    change: Change::Resolved,
                    ..known.alert.clone()
                });
                false
            });
        }
        alerts
    }

    /// Whether two findings are the same. An undecided cause or route may become decided.
    fn adopt_undecided(
        &mut self,
        key: &(String, Cause),
        present: &BTreeMap<(String, Cause), &Finding>,
    ) {
        if self.known.contains_key(key) {
            return;
        }
        // The cause may be mixed while new and repeated tokens are being compared.
        for earlier in [
            Cause::Indeterminate,
            Cause::Mixed,
            Cause::TokenKeyed,
            Cause::PerRequest,
        ] {
            // the route may have been undecided
            for route in [key.0.as_str(), UNDECIDED] {
                let earlier = (route.to_owned(), earlier);
                if !present.contains_key(&earlier)
                    && let Some(known) = self.known.remove(&earlier)
                {
                    self.known.insert(key.clone(), known);
                    return;
                }
            }
        }
    }

    fn alert(&self, pid: u32, change: Change, finding: &Finding) -> Alert {
        Alert {
            pid,
            service: self.service.clone(),
            change,
            route: finding.route.clone(),
            cause: finding.cause,
            location: site_location(&finding.site),
            // without a line of code, the container is the location
            function: match &finding.container {
                Some(container) if finding.site.file.is_none() => container.path.clone(),
                _ => finding.site.function.clone(),
            },
            summary: text::kept(finding),
            retained_bytes: finding.retained_bytes,
            time_to_oom_seconds: finding.time_to_oom_seconds.map(|oom| oom.median),
        }
    }
}

impl Alert {
    /// Writes the alert as one structured log line.
    pub fn log(&self) {
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    alert = self.change.name(),
                    service = self.service,
                    pid = self.pid,
                    route = self.route,
                    cause = cause(self.cause),
                    location = self.location,
                    function = self.function,
                    retained_bytes = self.retained_bytes,
                    time_to_oom_seconds = self.time_to_oom_seconds,
                    summary = self.summary,
                    $message
                )
            };
        }
        match self.change {
            Change::Suspect => line!(warn, "memory leak suspected"),
            Change::Confirmed => line!(error, "memory leak confirmed"),
            Change::Resolved => line!(info, "memory leak no longer seen"),
        }
    }
}

/// One log line for a change of the verdict. Targets without findings have a verdict too.
pub fn log_verdict(service: &str, report: &Report) {
    tracing::info!(
        service,
        pid = report.target.pid,
        verdict = verdict(report.verdict),
        reason = report.reason,
        "verdict"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::fixtures;

    /// The alerts of a sequence of reports. `-`: without findings; `?`: without evidence.
    fn told(states: &str) -> String {
        let mut alerts = Alerts::new("api");
        let mut told = String::new();
        for state in states.chars() {
            let report = match state {
                's' => fixtures::suspect(),
                'c' => fixtures::leak(),
                '-' => fixtures::no_leak(),
                _ => fixtures::insufficient(),
            };
            let changes = alerts.update(&report);
            assert!(changes.len() <= 1);
            told.push(match changes.first().map(|alert| alert.change) {
                None => '.',
                Some(Change::Suspect) => 's',
                Some(Change::Confirmed) => 'c',
                Some(Change::Resolved) => 'r',
            });
        }
        told
    }

    #[test]
    fn one_alert_per_change() {
        assert_eq!(told("-ssscccc"), ".s..c...");
        assert_eq!(told("ccc"), "c..");
        assert_eq!(told("ss-s-s--ss"), "s.........");
        assert_eq!(told("ss---ss"), "s...rs.");
        assert_eq!(told("cs-sc"), "c....");
        assert_eq!(told("cc-----c"), "c...r..c");
    }

    #[test]
    fn missing_evidence_resolves_nothing() {
        assert_eq!(told("s??????s"), "s.......");
        assert_eq!(told("s??????---"), "s........r");
    }

    #[test]
    fn a_cause_that_becomes_clear_is_no_new_finding() {
        let mut alerts = Alerts::new("api");
        let mut report = fixtures::suspect();
        report.findings[0].cause = Cause::Indeterminate;
        assert_eq!(alerts.update(&report).len(), 1);
        report.findings[0].cause = Cause::TokenKeyed;
        assert_eq!(alerts.update(&report), []);
        report.findings[0].state = FindingState::Confirmed;
        let changes = alerts.update(&report);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].change, changes[0].cause),
            (Change::Confirmed, Cause::TokenKeyed)
        );
        assert_eq!(alerts.known.len(), 1);
    }

    #[test]
    fn two_routes_are_two_alerts() {
        let mut alerts = Alerts::new("api");
        let mut report = fixtures::leak();
        let other = fixtures::finding(FindingState::Suspect, Cause::PerRequest, "POST /log");
        report.findings.push(other);
        let changes: Vec<_> = alerts
            .update(&report)
            .into_iter()
            .map(|alert| (alert.route, alert.change))
            .collect();
        assert_eq!(
            changes,
            [
                ("GET /api/data".to_owned(), Change::Confirmed),
                ("POST /log".to_owned(), Change::Suspect)
            ]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut alerts = Alerts::new("api");
        for route in 0..2 * REMEMBERED {
            let mut report = fixtures::suspect();
            report.findings[0].route = format!("GET /{route}");
            report.verdict = Verdict::InsufficientEvidence;
            alerts.update(&report);
        }
        assert_eq!(alerts.known.len(), REMEMBERED);
    }

    #[test]
    fn an_alert_is_a_structured_line() {
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let writer = {
            let lines = lines.clone();
            move || Collect(lines.clone())
        };
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for alert in Alerts::new("api").update(&fixtures::leak()) {
                alert.log();
            }
        });
        let line: serde_json::Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
        assert_eq!(line["alert"], "confirmed");
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["route"], "GET /api/data");
        assert_eq!(line["cause"], "token_keyed");
        assert_eq!(line["location"], "app.py:17");
        assert_eq!(line["time_to_oom_seconds"], 11_400.0);
    }

    struct Collect(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Collect {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
