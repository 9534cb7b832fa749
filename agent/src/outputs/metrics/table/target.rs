//! Metrics of each target: sums over its processes, or the worst of them.
// tidy: table

use std::collections::BTreeSet;

use super::metric::{Metric, counter, gauge};
use crate::outputs::format::{state, verdict};
use crate::outputs::metrics::samples::Samples;
use crate::outputs::metrics::target::{Folded, Target};
use heaptide_judge::events::Workload;
use heaptide_judge::report::{FindingState, Ledger, Verdict};

/// Maximum number of units, containers and pods of a target.
const WORKLOADS: usize = 20;

/// Pushes one sample per finding, for those that are leaks or suspicions only if `growing`.
fn findings(target: &Target, samples: &mut Samples, growing: bool, value: fn(&Folded) -> f64) {
    for ((route, cause), finding) in &target.findings {
        if !growing || finding.state > FindingState::None {
            samples.push(&[("route", route), ("cause", cause)], value(finding));
        }
    }
}

/// Pushes a value without labels, if there is one.
fn one(samples: &mut Samples, value: Option<f64>) {
    if let Some(value) = value {
        samples.push(&[], value);
    }
}

/// The sum of a figure of the ledgers.
fn ledger(target: &Target, of: fn(&Ledger) -> u64) -> Option<f64> {
    let mut ledgers = target.processes().filter_map(|one| one.ledger.as_ref());
    let first = ledgers.next()?;
    Some(ledgers.fold(of(first) as f64, |sum, one| sum + of(one) as f64))
}

fn yes(is: bool) -> f64 {
    f64::from(u8::from(is))
}

pub(in crate::outputs::metrics) const TARGET: &[Metric<Target>] = &[
    gauge(
        "target_processes",
        "Observed processes of the target; 0 if there is none.",
        |t, s| {
            s.push(&[], t.observed() as f64);
        },
    ),
    gauge(
        "target_failing_processes",
        "Processes that match the target and cannot be observed now, by reason.",
        |t, s| {
            for (reason, count) in t.counts.iter().flat_map(|counts| &counts.failing) {
                s.push(&[("reason", reason)], *count as f64);
            }
        },
    ),
    gauge(
        "target_left_out_processes",
        "Processes that match the target and are not observed because of max_processes.",
        |t, s| {
            one(s, t.counts.as_ref().map(|counts| counts.left_out as f64));
        },
    ),
    gauge(
        "target_info",
        "Runtime, allocators and mode of the target; always 1.",
        |t, s| {
            let mut kinds = BTreeSet::new();
            for report in t.processes() {
                let target = &report.target;
                kinds.insert((&target.runtime, target.allocators.join(","), &target.mode));
            }
            for (runtime, allocators, mode) in kinds {
                let labels = [
                    ("runtime", runtime.as_str()),
                    ("allocators", &allocators),
                    ("mode", mode),
                ];
                s.push(&labels, 1.0);
            }
        },
    ),
    gauge(
        "target_workload_info",
        "Units, containers and pods in which the target runs, from its control groups; always 1.",
        |t, s| {
            let all: BTreeSet<_> = t.processes().map(|one| &one.target.workload).collect();
            let named = all.into_iter().filter(|one| **one != Workload::default());
            for one in named.take(WORKLOADS) {
                let or_empty = |part: &Option<String>| part.clone().unwrap_or_default();
                let labels = [
                    ("target_unit", &*or_empty(&one.unit)),
                    ("target_container", &or_empty(&one.container)),
                    (
                        "target_container_runtime",
                        &or_empty(&one.container_runtime),
                    ),
                    ("target_pod_uid", &or_empty(&one.pod_uid)),
                ];
                s.push(&labels, 1.0);
            }
        },
    ),
    gauge(
        "last_report_timestamp_seconds",
        "Unix time of the newest report.",
        |t, s| {
            one(s, t.sum.as_ref().map(|_| t.updated));
        },
    ),
    gauge(
        "observed_seconds",
        "How long the process that was attached first has been observed.",
        |t, s| {
            one(s, t.largest(|report| report.window.seconds));
        },
    ),
    gauge(
        "verdict",
        "1 for the current verdict, 0 for the others.",
        |t, s| {
            let Some(report) = &t.sum else { return };
            for one in [
                Verdict::Leak,
                Verdict::Suspect,
                Verdict::NoLeak,
                Verdict::InsufficientEvidence,
            ] {
                s.push(&[("verdict", verdict(one))], yes(one == report.verdict));
            }
        },
    ),
    gauge(
        "finding_state",
        "1 for the current state of a finding, 0 for the others.",
        |t, s| {
            for ((route, cause), finding) in &t.findings {
                for one in [
                    FindingState::None,
                    FindingState::Suspect,
                    FindingState::Confirmed,
                ] {
                    let labels = [("route", &**route), ("cause", cause), ("state", state(one))];
                    s.push(&labels, yes(one == finding.state));
                }
            }
        },
    ),
    gauge(
        "finding_retained_bytes",
        "Memory kept by a finding since the attach.",
        |t, s| {
            findings(t, s, false, |finding| finding.retained_bytes as f64);
        },
    ),
    gauge(
        "finding_growth_bytes_per_second",
        "Current growth of a finding.",
        |t, s| {
            findings(t, s, false, |finding| finding.growth);
        },
    ),
    gauge(
        "finding_bytes_per_new_token",
        "Bytes kept per request with a new token.",
        |t, s| {
            findings(t, s, true, |finding| finding.per_new_token);
        },
    ),
    gauge(
        "finding_bytes_per_repeat_token",
        "Bytes kept per request with a repeated token.",
        |t, s| {
            findings(t, s, true, |finding| finding.per_repeat_token);
        },
    ),
    gauge(
        "finding_bytes_per_request",
        "Bytes kept per request.",
        |t, s| {
            findings(t, s, true, |finding| finding.per_request);
        },
    ),
    gauge(
        "time_to_oom_seconds",
        "Seconds until the smallest memory limit is reached. With a probability of 95 % it is later than `early`.",
        |t, s| {
            for ((route, cause), finding) in &t.findings {
                let Some(oom) = finding.time_to_oom else {
                    continue;
                };
                for (estimate, value) in [("median", oom.median), ("early", oom.early)] {
                    let labels = [
                        ("route", &**route),
                        ("cause", cause),
                        ("estimate", estimate),
                    ];
                    s.push(&labels, value);
                }
            }
        },
    ),
    gauge(
        "finding_site_retained_bytes",
        "Memory kept by code locations of findings.",
        |t, s| {
            for site in &t.sites {
                let labels = [
                    ("route", &*site.route),
                    ("cause", site.cause),
                    ("function", &site.function),
                    ("location", &site.location),
                ];
                s.push(&labels, site.bytes as f64);
            }
        },
    ),
    gauge(
        "finding_container_entries",
        "Entries of the containers (dict, list, map) of findings.",
        |t, s| {
            for ((path, kind), entries) in &t.containers {
                s.push(&[("path", path), ("kind", kind)], *entries as f64);
            }
        },
    ),
    gauge(
        "site_live_bytes",
        "Live memory by code location, the biggest ones.",
        |t, s| {
            for ((function, location), bytes) in t.live_sites() {
                let labels = [("function", function), ("location", location)];
                s.push(&labels, bytes as f64);
            }
        },
    ),
    counter(
        "requests",
        "Requests that ended, by route and token class.",
        |t, s| {
            for (name, route) in &t.counted.requests {
                for (class, count) in [
                    ("new", route.new),
                    ("repeat", route.repeat),
                    ("none", route.none),
                ] {
                    // Most routes have requests of one or two classes.
                    if count > 0 {
                        s.push(&[("route", name), ("token", class)], count as f64);
                    }
                }
            }
        },
    ),
    gauge(
        "route_retained_bytes",
        "Memory that outlived its request, by route.",
        |t, s| {
            for (name, route) in &t.routes {
                s.push(&[("route", name)], route.retained_bytes as f64);
            }
        },
    ),
    gauge(
        "route_latency_p99_seconds",
        "99th percentile of latency since the attach, by route.",
        |t, s| {
            for (name, route) in &t.routes {
                s.push(&[("route", name)], route.p99_seconds);
            }
        },
    ),
    gauge(
        "distinct_tokens",
        "Distinct credentials seen by the process that saw most, estimated.",
        |t, s| {
            one(s, t.largest(|report| report.window.distinct_tokens as f64));
        },
    ),
    gauge(
        "requests_seen",
        "1 while requests are traced in all processes, 0 while tracing is paused in one to stay within the budget.",
        |t, s| {
            let seen = t.sum.as_ref().map(|report| report.window.requests_seen);
            one(s, seen.map(yes));
        },
    ),
    gauge("rss_bytes", "Resident memory of the processes.", |t, s| {
        one(s, t.total(|report| report.memory.rss_end_bytes as f64));
    }),
    gauge(
        "live_bytes",
        "Bytes allocated and not freed since the attach.",
        |t, s| {
            one(s, t.total(|report| report.memory.live_bytes as f64));
        },
    ),
    gauge(
        "live_blocks",
        "Blocks allocated and not freed since the attach.",
        |t, s| {
            one(s, t.total(|report| report.memory.live_blocks as f64));
        },
    ),
    gauge(
        "live_growth_bytes",
        "Growth since the attach of memory that outlived its request.",
        |t, s| {
            one(s, t.total(|report| report.memory.live_growth_bytes as f64));
        },
    ),
    gauge(
        "memory_used_bytes",
        "Bytes used of the memory limit by the process that is nearest to its limit.",
        |t, s| {
            one(s, t.fullest().map(|memory| memory.used_bytes as f64));
        },
    ),
    gauge(
        "memory_limit_bytes",
        "The smallest memory limit that applies to that process.",
        |t, s| {
            let limit = t.fullest().and_then(|memory| memory.limit_bytes);
            one(s, limit.map(|limit| limit as f64));
        },
    ),
    gauge(
        "gained_bytes",
        "Rise of the floor of anonymous memory since the attach.",
        |t, s| {
            one(s, ledger(t, |ledger| ledger.gained_bytes));
        },
    ),
    gauge(
        "gained_part_bytes",
        "What explains the gained bytes: findings, benign growth, or nothing.",
        |t, s| {
            for (part, bytes) in [
                ("findings", ledger(t, |ledger| ledger.findings_bytes)),
                ("benign", ledger(t, |ledger| ledger.benign_bytes)),
                ("unexplained", ledger(t, |ledger| ledger.unexplained_bytes)),
            ] {
                if let Some(bytes) = bytes {
                    s.push(&[("part", part)], bytes);
                }
            }
        },
    ),
    gauge(
        "leak_bound_bytes_per_second",
        "Largest growth that could have been missed (95 %), if nothing was found.",
        |t, s| {
            one(s, t.bound());
        },
    ),
    gauge(
        "tokens_searched",
        "Tokens searched for in memory, by the minimum seconds since their last request.",
        |t, s| {
            for (age, of) in t.ages() {
                s.push(&[("age_seconds", &age.to_string())], of.tokens as f64);
            }
        },
    ),
    gauge(
        "tokens_resident",
        "Tokens found in memory, by the minimum seconds since their last request.",
        |t, s| {
            for (age, of) in t.ages() {
                s.push(&[("age_seconds", &age.to_string())], of.resident as f64);
            }
        },
    ),
    gauge(
        "tokens_resident_ratio",
        "Part of the tokens searched for that is in memory, over all ages.",
        |t, s| {
            let each = || t.processes().filter_map(|one| one.residency.as_ref());
            let tokens: u64 = each().map(|one| one.tokens).sum();
            let resident: u64 = each().map(|one| one.resident).sum();
            one(s, (tokens > 0).then(|| resident as f64 / tokens as f64));
        },
    ),
    gauge(
        "tokens_searched_bytes",
        "Memory that was searched for tokens.",
        |t, s| {
            let each = t.processes().filter_map(|one| one.residency.as_ref());
            let bytes = each
                .map(|one| one.scanned_bytes)
                .reduce(u64::saturating_add);
            one(s, bytes.map(|bytes| bytes as f64));
        },
    ),
    counter("losses", "Observations that were lost, by kind.", |t, s| {
        let health = t.health();
        for (kind, count) in [
            ("dropped_events", health.dropped_events),
            ("map_full", health.map_full),
            ("missed_returns", health.missed_returns),
            ("lost_frees", health.lost_frees),
            ("stacks_full", health.stacks_full),
            ("stacks_truncated", health.stacks_truncated),
        ] {
            s.push(&[("kind", kind)], count as f64);
        }
    }),
    counter(
        "unknown_frees",
        "Frees of blocks older than the attach or sampled out.",
        |t, s| {
            s.push(&[], t.health().unknown_frees as f64);
        },
    ),
    counter(
        "sampled_out_blocks",
        "Blocks left out by sampling; estimates count them.",
        |t, s| {
            s.push(&[], t.health().sampled_out as f64);
        },
    ),
    counter("probe_hits", "Times a probe ran in the target.", |t, s| {
        s.push(&[], t.health().probe_hits as f64);
    }),
    counter(
        "probe_seconds",
        "CPU time that probes cost the target, by calibration and measurement.",
        |t, s| {
            s.push(&[], t.health().probe_seconds);
        },
    ),
    gauge(
        "overhead_ratio",
        "Probe time divided by the CPU time, of the process with the largest ratio.",
        |t, s| {
            one(s, t.largest(|report| report.health.overhead_ratio));
        },
    ),
    gauge(
        "overhead_budget_ratio",
        "The configured maximum of the overhead; absent in mode trace, which has none.",
        |t, s| {
            one(s, t.declared.as_ref().and_then(|declared| declared.budget));
        },
    ),
];
