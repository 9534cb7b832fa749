//! Tests of the metrics.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::outputs::alerts::Alerts;
use heaptide_judge::fixtures;
use heaptide_judge::report::{Cause, ContainerSummary, FindingState, LiveSite, RouteSummary};

/// Publishes reports of targets.
fn publish<const N: usize>(metrics: &Metrics, reports: [(&str, Vec<Report>); N]) {
    let reports = reports.map(|(name, reports)| (name.to_owned(), reports));
    metrics.publish(reports.into());
}

fn declared(name: &str) -> Declared {
    Declared {
        name: name.to_owned(),
        budget: Some(0.03),
    }
}

/// A confirmed leak in the process 4711 and a bounded cache in 4712, and all metrics that there are.
fn metrics() -> Metrics {
    let metrics = Metrics::new();
    metrics.loaded(true);
    metrics.declare(vec![declared("api"), declared("absent")], true);
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
    first.target.workload.unit = Some("api.service".to_owned());
    let mut second = fixtures::no_leak();
    second.target.pid = 4712;
    second.bound = Some(fixtures::bound(12.5));
    publish(
        &metrics,
        [("api", vec![first]), ("python3.11", vec![second])],
    );
    for alert in Alerts::new("api").update(&fixtures::leak()) {
        metrics.count_alert(&alert);
        metrics.count_attach_error("api", "not_permitted");
    }
    let counts = Counts {
        observed: 1,
        failing: [("not_permitted", 2)].into(),
        left_out: 3,
    };
    let other = Counts {
        observed: 1,
        ..Counts::default()
    };
    metrics.set_counts([("api".to_owned(), counts), ("python3.11".to_owned(), other)].into());
    metrics
}

fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .collect()
}

fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found == line),
        "{line} is missing in\n{text}"
    );
}

#[test]
fn openmetrics_has_the_series_of_each_target() {
    let text = metrics().openmetrics().unwrap();
    for line in [
        "# TYPE heaptide_requests counter",
        "heaptide_requests_total{target=\"api\",route=\"GET /api/data\",token=\"new\"} 12410.0",
        "heaptide_requests_total{target=\"api\",route=\"GET /health\",token=\"none\"} 10.0",
        "heaptide_finding_state{target=\"api\",route=\"GET /api/data\",cause=\"token_keyed\",\
         state=\"confirmed\"} 1.0",
        "heaptide_finding_state{target=\"python3.11\",route=\"GET \
         /api/data\",cause=\"bounded_cache\",state=\"none\"} 1.0",
        "heaptide_finding_bytes_per_new_token{target=\"api\",route=\"GET \
         /api/data\",cause=\"token_keyed\"} 1945.6",
        "heaptide_time_to_oom_seconds{target=\"api\",route=\"GET /api/data\",\
         cause=\"token_keyed\",estimate=\"early\"} 9600.0",
        "heaptide_verdict{target=\"api\",verdict=\"leak\"} 1.0",
        "heaptide_gained_part_bytes{target=\"api\",part=\"unexplained\"} 1048576.0",
        "heaptide_alerts_total{target=\"api\",change=\"confirmed\"} 1.0",
        "heaptide_processes 2.0",
        "heaptide_target_processes{target=\"absent\"} 0.0",
        "heaptide_target_workload_info{target=\"api\",target_unit=\"api.service\",target_container=\"\",\
         target_container_runtime=\"\",target_pod_uid=\"\"} 1.0",
        "heaptide_target_failing_processes{target=\"api\",reason=\"not_permitted\"} 2.0",
        "heaptide_target_left_out_processes{target=\"api\"} 3.0",
        "heaptide_attach_errors_total{target=\"api\",reason=\"not_permitted\"} 1.0",
        "heaptide_overhead_budget_ratio{target=\"absent\"} 0.03",
        "heaptide_process_requests_total{target=\"api\",pid=\"4711\"} 24820.0",
        "heaptide_kernel_map_bytes 22020096.0",
    ] {
        has(&text, line);
    }
    assert!(text.ends_with("# EOF\n"));
}

/// Labels that scrapers set. Prometheus renames an exported one to `exported_...`, and all rules and panels break.
#[test]
fn no_label_is_that_of_a_scraper() {
    let text = metrics().openmetrics().unwrap();
    for label in [
        "service",
        "pod",
        "namespace",
        "container",
        "job",
        "instance",
        "endpoint",
        "node",
        "cluster",
    ] {
        for start in ["{", ","] {
            let label = format!("{start}{label}=\"");
            assert!(!text.contains(&label), "{label}");
        }
    }
}

#[test]
fn a_target_that_is_gone_leaves_no_series() {
    let metrics = metrics();
    metrics.remove(4712);
    let text = metrics.openmetrics().unwrap();
    assert!(!text.contains("target=\"python3.11\""), "{text}");
    has(&text, "heaptide_processes 1.0");
    metrics.remove(4711);
    metrics.set_counts(BTreeMap::new());
    let text = metrics.openmetrics().unwrap();
    assert!(!text.contains("pid="));
    // It is configured, so its absence is visible and its counters do not start anew.
    has(&text, "heaptide_target_processes{target=\"api\"} 0.0");
    assert!(series(&text, "heaptide_verdict").is_empty());
    assert_eq!(series(&text, "heaptide_requests_total").len(), 3);
    metrics.declare(Vec::new(), false);
    let text = metrics.openmetrics().unwrap();
    assert!(series(&text, "heaptide_requests_total").is_empty());
    assert!(series(&text, "heaptide_target_processes").is_empty());
}

/// The names of all series.
fn names(metrics: &Metrics) -> Vec<String> {
    let text = metrics.openmetrics().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_replaced_worker_makes_no_series_and_takes_no_counts_away() {
    let metrics = Metrics::new();
    metrics.declare(vec![declared("api")], false);
    let worker = |pid: u32| {
        let mut report = fixtures::leak();
        report.target.pid = pid;
        report
    };
    publish(&metrics, [("api", vec![worker(1), worker(2)])]);
    let before = names(&metrics);
    let requests = "heaptide_requests_total{target=\"api\",route=\"GET /api/data\",token=\"new\"}";
    has(
        &metrics.openmetrics().unwrap(),
        &format!("{requests} 24820.0"),
    );
    has(
        &metrics.openmetrics().unwrap(),
        "heaptide_finding_retained_bytes{target=\"api\",route=\"GET \
         /api/data\",cause=\"token_keyed\"} 48290816.0",
    );
    metrics.remove(2);
    publish(&metrics, [("api", vec![worker(1), worker(3)])]);
    assert_eq!(names(&metrics), before);
    let text = metrics.openmetrics().unwrap();
    has(&text, &format!("{requests} 37230.0"));
    // The same pid after an exec or a new attach.
    let mut again = worker(3);
    again.window.seconds = 1.0;
    publish(&metrics, [("api", vec![worker(1), again])]);
    let text = metrics.openmetrics().unwrap();
    has(&text, &format!("{requests} 49640.0"));
    has(
        &text,
        "heaptide_probe_hits_total{target=\"api\"} 11600000.0",
    );
}

/// The limits of issue 19: 60 series of an idle service, 150 with findings and 20 routes.
#[test]
fn a_target_has_few_series() {
    let of = |report: Report| {
        let metrics = Metrics::new();
        metrics.declare(vec![declared("api")], false);
        publish(&metrics, [("api", vec![report])]);
        let names = names(&metrics);
        let own = names.iter().filter(|name| name.contains("target=\"api\""));
        own.count()
    };
    let mut idle = fixtures::no_leak();
    idle.findings.clear();
    idle.routes.clear();
    idle.bound = Some(fixtures::bound(1.0));
    let site = |index: usize| LiveSite {
        function: format!("f{index}"),
        location: "l".to_owned(),
        bytes: 1,
        blocks: 1,
    };
    idle.live.top_sites = (0..40).map(site).collect();
    let mut busy = idle.clone();
    busy.findings = fixtures::leak().findings;
    busy.routes = (0..20)
        .map(|index| RouteSummary {
            route: format!("GET /{index}"),
            requests: 2,
            new_tokens: 1,
            repeat_tokens: 1,
            ..RouteSummary::default()
        })
        .collect();
    let (idle, busy) = (of(idle), of(busy));
    assert!(idle <= 60 && busy <= 150, "{idle}, {busy}");
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
    publish(&metrics, [("api", vec![report.clone()])]);
    let text = metrics.openmetrics().unwrap();
    assert_eq!(series(&text, "heaptide_requests_total").len(), 51);
    assert_eq!(series(&text, "heaptide_finding_retained_bytes").len(), 51);
    assert_eq!(series(&text, "heaptide_site_live_bytes").len(), 10);
    let other = "route=\"other\",token=\"none\"} 10.0";
    assert!(
        series(&text, "heaptide_requests_total")
            .iter()
            .any(|line| line.ends_with(other))
    );

    // The 60th becomes the busiest: its counts stay in `other`, and no named route disappears.
    report.routes.reverse();
    report.routes[0].requests = 100;
    publish(&metrics, [("api", vec![report])]);
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
    report.routes[1].route = "GET /\"} 1\nheaptide_processes 99".to_owned();
    publish(&metrics, [("x\u{1b}[2J", vec![report])]);
    let text = metrics.openmetrics().unwrap();
    let mut names = names(&metrics);
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(!text.contains('\u{1b}'));
    assert_eq!(
        series(&text, "heaptide_processes"),
        ["heaptide_processes 1.0"]
    );
    assert!(text.contains(r#"runtime="a\\b\"c"#));
    check_with_promtool(&metrics);
}

#[test]
fn names_keep_to_the_rules() {
    let mut names: Vec<String> = exported().into_iter().map(|one| one.name).collect();
    assert!(names.iter().all(|name| name.starts_with(PREFIX)));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a name twice");
    let text = metrics().prometheus().unwrap();
    let mut types = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        types.insert(name.to_owned());
    }
    // The fixtures fill every metric: a name that is never exported would be noticed here.
    assert_eq!(types.into_iter().collect::<Vec<_>>(), names);
}

/// The labels in the table of `docs/metrics.md` are those that are exported.
#[test]
fn labels_are_documented() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let table = std::fs::read_to_string(table).unwrap();
    let text = metrics().prometheus().unwrap();
    for metric in exported() {
        let lines = series(&text, &metric.name);
        let (_, of_first) = lines[0].split_once('{').unwrap_or_default();
        let labels: BTreeSet<&str> = of_first
            .split("\",")
            .filter_map(|label| Some(label.split_once("=\"")?.0))
            .collect();
        let row = format!("| `{}` |", metric.name);
        let row = table.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("{} has no row", metric.name));
        let cell = row.split('|').nth(3).unwrap();
        let said: BTreeSet<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert_eq!(said, labels, "{}", metric.name);
    }
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
