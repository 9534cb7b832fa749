//! Tests of the metrics.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::outputs::alerts::Alerts;
use heaptide_judge::fixtures;
use heaptide_judge::report::{
    Bound, Cause, ContainerSummary, FindingState, LiveSite, RouteSummary,
};

fn metrics() -> Metrics {
    let metrics = Metrics::new();
    let mut first = fixtures::leak();
    first.findings[0].container = Some(ContainerSummary {
        path: "app.claims_cache".to_owned(),
        kind: "dict".to_owned(),
        entries_start: 1_000,
        entries_end: 3_000,
        entries_per_new_token: Some(1.0),
        entries_per_request: None,
        bytes_per_entry: Some(1_945.6),
    });
    metrics.update(Some("api"), &first);
    let mut second = fixtures::no_leak();
    second.target.pid = 4712;
    second.bound = Some(Bound {
        seconds: 60.0,
        bytes_per_second: 12.5,
        lasts_seconds: None,
        observe_seconds: None,
        one_in_requests: None,
        is_whole: true,
        counts_containers: false,
    });
    metrics.update(None, &second);
    for alert in Alerts::new("api").update(&fixtures::leak()) {
        metrics.count_alert(&alert);
        metrics.count_attach_error("api");
    }
    metrics
}

fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .collect()
}

#[test]
fn openmetrics_has_the_series_of_each_target() {
    let text = metrics().openmetrics().unwrap();
    for line in [
        "# TYPE heaptide_requests counter",
        "heaptide_requests_total{pid=\"4711\",exe=\"python3.11\",service=\"api\",route=\"GET \
         /api/data\",token=\"new\"} 12410.0",
        "heaptide_requests_total{pid=\"4711\",exe=\"python3.11\",service=\"api\",route=\"GET \
         /health\",token=\"none\"} 10.0",
        "heaptide_finding_state{pid=\"4711\",exe=\"python3.11\",service=\"api\",route=\"GET \
         /api/data\",cause=\"token_keyed\",state=\"confirmed\"} 1.0",
        "heaptide_finding_state{pid=\"4712\",exe=\"python3.11\",service=\"python3.11\",route=\"GET \
         /api/data\",cause=\"bounded_cache\",state=\"none\"} 1.0",
        "heaptide_finding_bytes_per_new_token{pid=\"4711\",exe=\"python3.11\",service=\"api\",\
         route=\"GET /api/data\",cause=\"token_keyed\"} 1945.6",
        "heaptide_time_to_oom_seconds{pid=\"4711\",exe=\"python3.11\",service=\"api\",route=\"GET \
         /api/data\",cause=\"token_keyed\",estimate=\"early\"} 9600.0",
        "heaptide_verdict{pid=\"4711\",exe=\"python3.11\",service=\"api\",verdict=\"leak\"} 1.0",
        "heaptide_alerts_total{service=\"api\",change=\"confirmed\"} 1.0",
        "heaptide_targets 2.0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_target_that_is_gone_leaves_no_series() {
    let metrics = metrics();
    metrics.remove(4711);
    let text = metrics.openmetrics().unwrap();
    assert!(!text.contains("4711"));
    assert!(text.contains("4712") && text.contains("heaptide_targets 1.0"));
    metrics.remove(4712);
    assert!(!metrics.openmetrics().unwrap().contains("pid="));
}

#[test]
fn routes_and_sites_are_capped_and_keep_their_label() {
    let metrics = Metrics::new();
    let mut report = fixtures::leak();
    let route = |index: usize, requests| RouteSummary {
        route: format!("GET /{index}"),
        requests,
        ..RouteSummary::default()
    };
    report.routes = (0..60).map(|index| route(index, 1)).collect();
    report.findings = (0..60)
        .map(|index| {
            fixtures::finding(
                FindingState::Suspect,
                Cause::PerRequest,
                &format!("GET /{index}"),
            )
        })
        .collect();
    report.live.top_sites = (0..40)
        .map(|index| LiveSite {
            function: format!("f{index}"),
            location: "l".to_owned(),
            bytes: 1,
            blocks: 1,
        })
        .collect();
    metrics.update(None, &report);
    let text = metrics.openmetrics().unwrap();
    assert_eq!(series(&text, "heaptide_requests_total").len(), 51 * 3);
    assert_eq!(series(&text, "heaptide_finding_retained_bytes").len(), 51);
    assert_eq!(series(&text, "heaptide_site_live_bytes").len(), 20);
    let other = "route=\"other\",token=\"none\"} 10.0";
    assert!(
        series(&text, "heaptide_requests_total")
            .iter()
            .any(|line| line.ends_with(other))
    );

    // The 60th becomes the busiest: its counts stay in `other`, and no named route disappears.
    report.routes.reverse();
    report.routes[0].requests = 100;
    metrics.update(None, &report);
    let text = metrics.openmetrics().unwrap();
    assert!(text.contains("route=\"GET /0\""));
    assert!(!text.contains("route=\"GET /59\""));
    assert!(text.contains("route=\"other\",token=\"none\"} 109.0"));
}

#[test]
fn series_never_come_twice_and_labels_are_escaped() {
    let metrics = Metrics::new();
    let mut report = fixtures::leak();
    report.findings.push(report.findings[0].clone());
    report.live.top_sites.push(report.live.top_sites[0].clone());
    report.target.runtime = "a\\b\"c\nd".to_owned();
    report.routes[1].route = "GET /\"} 1\nheaptide_targets 99".to_owned();
    metrics.update(Some("x\u{1b}[2J"), &report);
    let text = metrics.openmetrics().unwrap();
    let mut names: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name))
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(!text.contains('\u{1b}'));
    assert_eq!(series(&text, "heaptide_targets"), ["heaptide_targets 1.0"]);
    assert!(text.contains(r#"runtime="a\\b\"c"#));
    check_with_promtool(&metrics);
}

#[test]
fn names_keep_to_the_rules() {
    let mut names = exported_names();
    assert!(names.iter().all(|name| name.starts_with(PREFIX)));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a name twice");
    let text = metrics().prometheus().unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(
            names.contains(&name.to_owned()),
            "{name} is not in exported_names"
        );
    }
    // The fixtures fill every metric: a name that is never exported would be noticed here.
    let exported = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .count();
    assert_eq!(exported, names.len());
}

#[test]
fn promtool_finds_nothing_to_say() {
    check_with_promtool(&metrics());
    check_with_promtool(&Metrics::new());
}

fn check_with_promtool(metrics: &Metrics) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: promtool (Debian package prometheus) is not installed");
        return;
    };
    let text = metrics.prometheus().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
