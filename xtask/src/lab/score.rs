//! Compares heaptide's findings with the known answer.

use serde::Serialize;
use serde_json::Value;

use super::catalog::{Expect, Service, Variant, row_name};
use super::observe::Observed;
use super::{python, service};

/// Tolerance of reported bytes.
const TOLERANCE: f64 = 0.10;
/// Tolerance if heaptide samples and the service estimates the allocator's overhead.
const OF_SAMPLES: f64 = 0.30;
/// Standard errors within which the truth must be.
const SURE: f64 = 3.0;
/// Containers are counted periodically, so the last entries may be missing.
const COUNTED: std::ops::RangeInclusive<f64> = 0.7..=1.02;

/// The titles of [`Score::row`].
pub(crate) const TITLES: [&str; 10] = [
    "variant",
    "expected",
    "said",
    "route",
    "site",
    "container",
    "kept, reported / true",
    "suspected after",
    "overhead",
    "",
];

/// A verdict and its comparison with the truth.
#[derive(Default, Serialize)]
pub(crate) struct Score {
    variant: String,
    expected: String,
    said: String,
    route: String,
    site: String,
    container: String,
    kept: String,
    suspected_after_seconds: Option<f64>,
    overhead_ratio: Option<f64>,
    /// What is wrong.
    wrong: Vec<String>,
    /// Why it could not run.
    skipped: Option<String>,
}

impl Score {
    pub(crate) fn of(service: &Service, variant: &Variant, observed: &Observed) -> Self {
        let report = &observed.report;
        let verdict = text(report, "/verdict");
        let finding = report.pointer("/findings/0").filter(|_| is_found(verdict));
        let said = |pointer: &str| finding.map_or("", |finding| text(finding, pointer));
        let number = |pointer: &str| finding?.pointer(pointer)?.as_f64();
        let mut score = Self {
            said: [verdict, said("/cause")].join(" ").trim().to_owned(),
            route: said("/route").to_owned(),
            site: format!("{} {}", said("/site/function"), location(finding))
                .trim()
                .to_owned(),
            container: container(finding),
            suspected_after_seconds: number("/suspected_after_seconds"),
            overhead_ratio: report
                .pointer("/health/overhead_ratio")
                .and_then(Value::as_f64),
            ..Self::new(service, variant)
        };
        match variant.expect {
            Expect::Leak => {
                score.check(is_found(verdict), "verdict");
                if is_found(verdict) {
                    score.answer(service, variant, observed, finding);
                }
            }
            Expect::NoLeak => score.check(verdict == "no_leak", "verdict"),
            Expect::NotConfirmed => {
                score.check(
                    matches!(verdict, "no_leak" | "suspect" | "insufficient_evidence"),
                    "verdict",
                );
            }
        }
        score
    }

    fn new(service: &Service, variant: &Variant) -> Self {
        let verdict = match variant.expect {
            Expect::Leak => "leak",
            Expect::NoLeak => "no_leak",
            Expect::NotConfirmed => "not confirmed",
        };
        let expected = [verdict, variant.cause.as_deref().unwrap_or("")].join(" ");
        Self {
            variant: row_name(service, variant),
            expected: expected.trim().to_owned(),
            ..Self::default()
        }
    }

    /// heaptide, the service or the load failed.
    pub(crate) fn failed(service: &Service, variant: &Variant, error: &anyhow::Error) -> Self {
        Self {
            said: format!("{error:#}"),
            wrong: vec!["failed".to_owned()],
            ..Self::new(service, variant)
        }
    }

    /// The service cannot run here.
    pub(crate) fn skipped(service: &Service, variant: &Variant, reason: String) -> Self {
        Self {
            skipped: Some(reason),
            ..Self::new(service, variant)
        }
    }

    /// Compares a finding with the known leak.
    fn answer(
        &mut self,
        service: &Service,
        variant: &Variant,
        observed: &Observed,
        finding: Option<&Value>,
    ) {
        let said = |pointer: &str| finding.map_or("", |finding| text(finding, pointer));
        let is = |wanted: &Option<String>, pointer: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| said(pointer) == wanted)
        };
        self.check(is(&variant.cause, "/cause"), "cause");
        self.check(is(&variant.route, "/route"), "route");
        let path = said("/container/path");
        if let Some(wanted) = variant.container.as_deref() {
            self.check(path.ends_with(wanted), "container");
        }
        if service.workers == 1
            && let Some(entries) = finding.and_then(|f| f.pointer("/container/entries_end"))
            && let (Some(entries), Some(truth)) = (
                entries.as_f64(),
                observed.after["entries"].as_f64().filter(|n| *n > 0.0),
            )
        {
            self.check(COUNTED.contains(&(entries / truth)), "entries");
        }
        // If the container is known, its writer site may be missing but not wrong.
        let has_file = finding
            .is_some_and(|finding| finding.pointer("/site/file").is_some_and(Value::is_string));
        if let Some(function) = variant.function.as_deref()
            && !service.stripped
            && (has_file || variant.container.is_none())
        {
            let right = said("/site/function").contains(function);
            self.check(right && is_there(service, function, finding), "site");
        }
        self.kept(service, variant, observed, finding);
    }

    /// Compares the bytes kept per token or request, if the service knows them.
    fn kept(
        &mut self,
        service: &Service,
        variant: &Variant,
        observed: &Observed,
        finding: Option<&Value>,
    ) {
        let (field, of) = match variant.cause.as_deref() {
            Some("token_keyed") => ("/retained_bytes_per_new_token", observed.grown("/entries")),
            Some("per_request") => ("/retained_bytes_per_request", requests(variant, observed)),
            _ => return,
        };
        // With several tokens per subject there are fewer entries than new tokens.
        let of = if variant.name == "subject-cache" {
            new_tokens(variant, observed)
        } else {
            of
        };
        let said = finding.and_then(|finding| finding.pointer(field)?.as_f64());
        let (Some(said), Some(truth)) = (said, of.and_then(|of| observed.kept_per(of))) else {
            return;
        };
        self.kept = format!("{said:.0} / {truth:.0} B");
        // With few samples the error is large, and heaptide reports it.
        let figure = |field| finding.and_then(|finding| finding.pointer(field)?.as_f64());
        let error = figure("/retained_bytes_error").unwrap_or(0.0)
            / figure("/retained_bytes").unwrap_or(0.0).max(1.0);
        let tolerance = if service.go.is_some() {
            OF_SAMPLES.max(SURE * error)
        } else {
            TOLERANCE
        };
        // Python services count sizes of objects, without the allocator's overhead.
        if service.python.is_none() {
            let is_lower_bound = finding
                .and_then(|finding| finding.get("retained_is_lower_bound")?.as_bool())
                .unwrap_or(false);
            let is_allowed = is_lower_bound && said < truth;
            if is_lower_bound {
                self.kept.insert_str(0, ">= ");
            }
            self.check(
                is_allowed || (said - truth).abs() <= tolerance * truth,
                "bytes kept",
            );
        }
    }

    fn check(&mut self, right: bool, what: &str) {
        if !right {
            self.wrong.push(what.to_owned());
        }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.skipped.is_none()
    }

    pub(crate) fn is_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Seconds to the first suspicion.
    pub(crate) fn latency(&self) -> Option<f64> {
        self.suspected_after_seconds
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "expected {}, got {}: {}",
            self.expected,
            self.said,
            self.judged()
        )
    }

    /// The differences, in a word or two.
    fn judged(&self) -> String {
        if let Some(reason) = &self.skipped {
            format!("SKIPPED: {reason}")
        } else if self.is_right() {
            "right".to_owned()
        } else {
            format!("wrong {}", self.wrong.join(", "))
        }
    }

    /// The row of the table.
    pub(crate) fn row(&self) -> [String; TITLES.len()] {
        let seconds = |seconds: f64| format!("{seconds:.0} s");
        let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
        [
            self.variant.clone(),
            self.expected.clone(),
            self.said.clone(),
            self.route.clone(),
            self.site.clone(),
            self.container.clone(),
            self.kept.clone(),
            self.suspected_after_seconds
                .map(seconds)
                .unwrap_or_default(),
            self.overhead_ratio.map(percent).unwrap_or_default(),
            self.judged(),
        ]
    }
}

/// Whether the reported line is in the function, if the source is readable.
fn is_there(service: &Service, function: &str, finding: Option<&Value>) -> bool {
    let site = finding.and_then(|finding| finding.get("site"));
    let file = site.and_then(|site| site.get("file")?.as_str());
    let line = site.and_then(|site| site.get("line")?.as_u64());
    match (file, line) {
        (Some(file), Some(line)) if service.python.is_some() => {
            python::is_line_of(&service::folder(service), file, line, function) == Some(true)
        }
        _ => true,
    }
}

/// Requests on the leaking route during the observation, including rejected ones (which keep
/// nothing), as heaptide counts them.
fn requests(variant: &Variant, observed: &Observed) -> Option<f64> {
    let route = variant
        .route
        .as_deref()?
        .replace('~', "~0")
        .replace('/', "~1");
    observed.grown(&format!("/requests/{route}"))
}

/// New tokens on the leaking route during the observation, by the load generator's shares.
fn new_tokens(variant: &Variant, observed: &Observed) -> Option<f64> {
    let route = variant.route.as_deref()?;
    let sent = observed.load.get("routes")?.get(route)?;
    let share = sent.get("new_tokens")?.as_f64()? / sent.get("requests")?.as_f64()?;
    Some(requests(variant, observed)? * share)
}

fn is_found(verdict: &str) -> bool {
    matches!(verdict, "leak" | "suspect")
}

fn location(finding: Option<&Value>) -> String {
    let site = finding.and_then(|finding| finding.get("site"));
    let Some(file) = site.and_then(|site| site.get("file")?.as_str()) else {
        return String::new();
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    let line = site.and_then(|site| site.get("line")?.as_u64());
    line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"))
}

/// `app.claims_cache 1000 -> 3000`.
fn container(finding: Option<&Value>) -> String {
    let of = |name: &str| finding.and_then(|finding| finding.get("container")?.get(name));
    let Some(path) = of("path").and_then(Value::as_str) else {
        return String::new();
    };
    let count = |name: &str| of(name).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{path} {} -> {}",
        count("entries_start"),
        count("entries_end")
    )
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
