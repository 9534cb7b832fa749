//! Dashboards, rules and their documentation name only metrics that heaptide exports, and refer to each other
//! correctly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use heaptide::outputs::metrics::exported;
use regex::Regex;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn captured(pattern: &str, text: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern
        .captures_iter(text)
        .map(|found| found[1].to_owned())
        .collect()
}

#[test]
fn every_metric_that_is_named_is_exported() {
    let exported: BTreeSet<String> = exported().into_iter().map(|one| one.name).collect();
    for path in [
        "dashboards/grafana/heaptide.json",
        "dashboards/rules/heaptide.rules.yml",
        "dashboards/rules/heaptide.test.yml",
        "docs/alerts.md",
        "docs/metrics.md",
    ] {
        let named: BTreeSet<String> = captured(r"\b(heaptide_[a-z0-9_]+)", &text(path))
            .into_iter()
            .collect();
        assert!(!named.is_empty(), "{path} names no metric");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(
            unknown.is_empty(),
            "{path} names {unknown:?}, which heaptide does not export"
        );
    }
}

/// The queries of the panels, variables and annotations of the dashboard by their names.
fn queries() -> BTreeMap<String, String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(&text("dashboards/grafana/heaptide.json")).unwrap();
    let mut queries = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let name = format!("panel *{}*", panel["title"].as_str().unwrap());
        let targets = panel["targets"].as_array().into_iter().flatten();
        let exprs: Vec<&str> = targets.filter_map(|one| one["expr"].as_str()).collect();
        queries.insert(name, exprs.join("\n"));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let name = format!("variable `{}`", variable["name"].as_str().unwrap());
        let query = variable["definition"].as_str().unwrap_or_default();
        queries.insert(name, query.to_owned());
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let name = format!("annotation *{}*", annotation["name"].as_str().unwrap());
        queries.insert(name, annotation["expr"].as_str().unwrap().to_owned());
    }
    let rules = text("dashboards/rules/heaptide.rules.yml");
    let (recorded, alerts) = rules.split_once("- name: heaptide\n").unwrap();
    for alert in alerts.split("- alert: ").skip(1) {
        let name = format!("rule {}", alert.lines().next().unwrap());
        // An alert uses what the recorded series that it names use.
        let used = recorded
            .split("- record: ")
            .skip(1)
            .filter(|one| alert.contains(one.lines().next().unwrap()));
        queries.insert(name, used.chain([alert]).collect());
    }
    queries
}

/// The table of metrics has a row for each metric, with kind and meaning as exported, and what is said to use a metric
/// does.
#[test]
fn metrics_are_documented_and_used() {
    let queries = queries();
    let page = text("docs/metrics.md");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `heaptide_")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, _labels, help, used] = cells[..] else {
            panic!("{line}");
        };
        let name = name.trim_matches('`').to_owned();
        assert!(
            rows.insert(name, (kind, help, used)).is_none(),
            "twice: {line}"
        );
    }
    for metric in exported() {
        let row = rows.remove(&metric.name);
        let (kind, help, used) = row.unwrap_or_else(|| panic!("{} has no row", metric.name));
        assert_eq!((kind, help), (metric.kind, metric.help), "{}", metric.name);
        let whole = Regex::new(&format!(r"\b{}\b", metric.name)).unwrap();
        let users: Vec<&str> = used.split(", ").collect();
        // A title may have a comma.
        let users = if queries.contains_key(used) {
            vec![used]
        } else {
            users
        };
        if let Some(why) = used.strip_prefix("why: ") {
            let user = queries.iter().find(|(_, query)| whole.is_match(query));
            assert!(
                why.len() > 20 && user.is_none(),
                "{}: {user:?}",
                metric.name
            );
            continue;
        }
        for user in users {
            let query = queries.get(user);
            let query = query.unwrap_or_else(|| panic!("{}: there is no {user}", metric.name));
            assert!(whole.is_match(query), "{user} has no {}", metric.name);
        }
    }
    assert!(rows.is_empty(), "not exported: {rows:?}");
}

#[test]
fn the_dashboard_shows_what_it_promises() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&text("dashboards/grafana/heaptide.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = String::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = &panel["title"];
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            queries += target["expr"].as_str().unwrap();
        }
        assert!(
            panel["description"].as_str().is_some_and(|d| !d.is_empty()),
            "{title}"
        );
    }
    for metric in [
        "heaptide_verdict",
        "heaptide_finding_state",
        "heaptide_route_retained_bytes",
        "heaptide_finding_bytes_per_new_token",
        "heaptide_time_to_oom_seconds",
        "heaptide_requests_total",
        "heaptide_losses_total",
        "heaptide_overhead_ratio",
        "heaptide_agent_cpu_seconds_total",
        "heaptide_agent_rss_bytes",
    ] {
        assert!(queries.contains(metric), "no panel shows {metric}");
    }
    let ids: BTreeSet<i64> = panels
        .iter()
        .map(|panel| panel["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "a panel id occurs twice");
}

#[test]
fn every_alert_is_complete_documented_and_tested() {
    let rules = text("dashboards/rules/heaptide.rules.yml");
    let tests = text("dashboards/rules/heaptide.test.yml");
    let runbook = text("docs/alerts.md");
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        for part in ["expr:", "severity:", "summary:", "description:"] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let place = "runbook_url: file:///usr/share/doc/heaptide/alerts.md";
        let anchor = format!("{place}#{}\n", name.to_lowercase());
        assert!(rule.contains(&anchor), "{name} has no {anchor}");
        assert!(
            runbook.contains(&format!("\n## {name}\n")),
            "docs/alerts.md lacks {name}"
        );
        // One test in which it fires, and one in which it does not.
        let expected: Vec<&str> = tests
            .split(&format!("alertname: {name}\n"))
            .skip(1)
            .map(|test| test.lines().next().unwrap_or_default().trim())
            .collect();
        let negative = expected.iter().filter(|line| line.ends_with("[]")).count();
        assert!(
            0 < negative && negative < expected.len(),
            "{name} fires in {} of {} tests",
            expected.len() - negative,
            expected.len()
        );
        // Scrapers' labels and the target do not change; a cause does.
        for by in captured(r"by \(([^)]*)\)", rule) {
            for label in by.split(", ") {
                assert!(
                    ["job", "instance", "target", "route"].contains(&label),
                    "{name} may change its label {label}"
                );
            }
        }
        let pages = rule.contains("severity: critical");
        assert_eq!(pages, name == "HeaptideOutOfMemorySoon", "{name}");
    }
    for name in captured(r"(?m)^## (\w+)$", &runbook) {
        assert!(
            rules.contains(&format!("- alert: {name}\n")),
            "{name} is documented, but has no rule"
        );
    }
}

#[test]
fn promtool_accepts_and_passes_the_rules() {
    let folder = repository().join("dashboards/rules");
    for arguments in [
        ["check", "rules", "--lint-fatal", "heaptide.rules.yml"].as_slice(),
        &["test", "rules", "heaptide.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(&folder)
            .output();
        let Ok(output) = output else {
            eprintln!("skipped: promtool (Debian package prometheus) is not installed");
            return;
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}
