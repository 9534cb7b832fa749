//! What heaptide said against the known answer.

use serde_json::Value;

use super::catalog::{Expect, Variant};
use super::observe::Observed;

/// How far the bytes said may be from the truth.
const TOLERANCE: f64 = 0.10;

/// A verdict beside its truth.
pub(crate) struct Score {
    expected: String,
    said: String,
    route: String,
    site: String,
    kept: String,
    suspected: String,
    overhead: String,
    /// What is wrong.
    wrong: Vec<String>,
}

impl Score {
    pub(crate) fn of(variant: &Variant, observed: &Observed) -> Self {
        let report = &observed.report;
        let verdict = text(report, "/verdict");
        let finding = report.pointer("/findings/0").filter(|_| is_found(verdict));
        let said = |pointer: &str| finding.map_or("", |finding| text(finding, pointer));
        let mut score = Self {
            expected: expected(variant),
            said: [verdict, said("/cause")].join(" ").trim().to_owned(),
            route: said("/route").to_owned(),
            site: format!("{} {}", said("/site/function"), location(finding))
                .trim()
                .to_owned(),
            kept: String::new(),
            suspected: finding
                .and_then(|finding| finding.pointer("/suspected_after_seconds")?.as_f64())
                .map(|seconds| format!("{seconds:.0} s"))
                .unwrap_or_default(),
            overhead: report
                .pointer("/health/overhead_ratio")
                .and_then(Value::as_f64)
                .map(|ratio| format!("{:.1} %", ratio * 100.0))
                .unwrap_or_default(),
            wrong: Vec::new(),
        };
        let right = match variant.expect {
            Expect::Leak => is_found(verdict),
            Expect::NoLeak => verdict == "no_leak",
        };
        score.check(right, "verdict");
        if variant.expect == Expect::Leak && right {
            let is = |wanted: &Option<String>, pointer: &str| {
                wanted
                    .as_deref()
                    .is_none_or(|wanted| said(pointer) == wanted)
            };
            score.check(is(&variant.cause, "/cause"), "cause");
            score.check(is(&variant.route, "/route"), "route");
            let function = variant.function.as_deref().unwrap_or("");
            score.check(said("/site/function").contains(function), "site");
            score.kept(variant, observed, finding);
        }
        score
    }

    /// heaptide, the service or the load did not get that far.
    pub(crate) fn failed(variant: &Variant, error: &anyhow::Error) -> Self {
        Self {
            expected: expected(variant),
            said: format!("{error:#}"),
            route: String::new(),
            site: String::new(),
            kept: String::new(),
            suspected: String::new(),
            overhead: String::new(),
            wrong: vec!["failed".to_owned()],
        }
    }

    /// Compares the bytes kept per token or request, where the service knows them.
    fn kept(&mut self, variant: &Variant, observed: &Observed, finding: Option<&Value>) {
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
        self.check((said - truth).abs() <= TOLERANCE * truth, "bytes kept");
    }

    fn check(&mut self, right: bool, what: &str) {
        if !right {
            self.wrong.push(what.to_owned());
        }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "expected {}, said {}: {}",
            self.expected,
            self.said,
            self.judged()
        )
    }

    /// What is right or wrong, in a word or two.
    fn judged(&self) -> String {
        if self.is_right() {
            "right".to_owned()
        } else {
            format!("wrong {}", self.wrong.join(", "))
        }
    }

    /// The row of the table after the variant's name.
    pub(crate) fn row(&self) -> Vec<String> {
        vec![
            self.expected.clone(),
            self.said.clone(),
            self.route.clone(),
            self.site.clone(),
            self.kept.clone(),
            self.suspected.clone(),
            self.overhead.clone(),
            self.judged(),
        ]
    }
}

fn expected(variant: &Variant) -> String {
    let verdict = match variant.expect {
        Expect::Leak => "leak",
        Expect::NoLeak => "no_leak",
    };
    [verdict, variant.cause.as_deref().unwrap_or("")]
        .join(" ")
        .trim()
        .to_owned()
}

/// Requests on the leaking route during the observation, refused ones (which keep nothing) included,
/// as heaptide counts them.
fn requests(variant: &Variant, observed: &Observed) -> Option<f64> {
    let route = variant
        .route
        .as_deref()?
        .replace('~', "~0")
        .replace('/', "~1");
    observed.grown(&format!("/requests/{route}"))
}

/// New tokens on the leaking route during the observation, as the load generator's shares have it.
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

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
