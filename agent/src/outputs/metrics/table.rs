//! The table of metrics: name, help, kind and a function for the samples. A new metric is a line here.

use super::samples::{Kind, Samples};
use super::state::MetricsState;
use super::target::{Folded, Target};
use crate::outputs::format::verdict;
use heaptide_judge::report::{FindingState, ResidentAge, Verdict};

/// A metric that is computed from `T`.
pub(super) struct Metric<T> {
    /// Without prefix and `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: fn(&T, &mut Samples),
}

const fn gauge<T>(
    name: &'static str,
    help: &'static str,
    samples: fn(&T, &mut Samples),
) -> Metric<T> {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
        samples,
    }
}

const fn counter<T>(
    name: &'static str,
    help: &'static str,
    samples: fn(&T, &mut Samples),
) -> Metric<T> {
    Metric {
        name,
        help,
        kind: Kind::Counter,
        samples,
    }
}

/// Metrics of the agent itself.
pub(super) const AGENT: &[Metric<MetricsState>] = &[
    gauge("build_info", "Version of heaptide; always 1.", |_, s| {
        s.push(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    }),
    gauge("targets", "Processes observed now.", |state, s| {
        s.push(&[], state.targets.len() as f64);
    }),
    gauge(
        "healthy",
        "1 if /healthz answers 200, else 0.",
        |state, s| {
            s.push(&[], if state.unhealthy.is_none() { 1.0 } else { 0.0 });
        },
    ),
    counter(
        "agent_cpu_seconds",
        "CPU time that heaptide itself used.",
        |state, s| {
            s.push(&[], state.agent.agent_cpu_seconds);
        },
    ),
    gauge(
        "agent_rss_bytes",
        "Resident memory of heaptide itself.",
        |state, s| {
            s.push(&[], state.agent.agent_rss_bytes as f64);
        },
    ),
    counter(
        "attach_errors",
        "Attempts to observe a process that failed, by service.",
        |state, s| {
            for (service, count) in &state.attach_errors {
                s.push(&[("service", service)], *count as f64);
            }
        },
    ),
    counter(
        "refused_connections",
        "Connections to /metrics that were closed unanswered because there were too many.",
        |state, s| {
            s.push(&[], state.refused_connections as f64);
        },
    ),
    counter(
        "alerts",
        "Changes of findings that were logged, by service and change.",
        |state, s| {
            for ((service, change), count) in &state.alerts {
                s.push(&[("service", service), ("change", change)], *count as f64);
            }
        },
    ),
];

/// Pushes one sample per finding.
fn findings(target: &Target, samples: &mut Samples, value: fn(&Folded) -> f64) {
    for ((route, cause), finding) in &target.findings {
        samples.push(&[("route", route), ("cause", cause)], value(finding));
    }
}

/// Pushes one sample per age of tokens.
fn ages(target: &Target, samples: &mut Samples, value: fn(&ResidentAge) -> u64) {
    let ages = target.report.residency.iter().flat_map(|one| &one.ages);
    for age in ages {
        let seconds = age.at_least_seconds.to_string();
        samples.push(&[("age_seconds", &seconds)], value(age) as f64);
    }
}

/// Metrics of each target.
pub(super) const TARGET: &[Metric<Target>] = &[
    gauge(
        "target_info",
        "Runtime, allocators and mode of the process; always 1.",
        |t, s| {
            let target = &t.report.target;
            let allocators = target.allocators.join(",");
            let labels = [
                ("runtime", &*target.runtime),
                ("allocators", &allocators),
                ("mode", &target.mode),
            ];
            s.push(&labels, 1.0);
        },
    ),
    gauge(
        "last_report_timestamp_seconds",
        "Unix time of the newest report.",
        |t, s| {
            s.push(&[], t.updated);
        },
    ),
    gauge(
        "observed_seconds",
        "How long the process has been observed.",
        |t, s| {
            s.push(&[], t.report.window.seconds);
        },
    ),
    gauge(
        "verdict",
        "1 for the current verdict, 0 for the others.",
        |t, s| {
            for one in [
                Verdict::Leak,
                Verdict::Suspect,
                Verdict::NoLeak,
                Verdict::InsufficientEvidence,
            ] {
                s.push(
                    &[("verdict", verdict(one))],
                    f64::from(u8::from(one == t.report.verdict)),
                );
            }
        },
    ),
    gauge(
        "finding_state",
        "1 for the current state of a finding, 0 for the others.",
        |t, s| {
            for ((route, cause), finding) in &t.findings {
                for state in [
                    FindingState::None,
                    FindingState::Suspect,
                    FindingState::Confirmed,
                ] {
                    let name = crate::outputs::format::state(state);
                    let labels = [("route", &**route), ("cause", cause), ("state", name)];
                    s.push(&labels, f64::from(u8::from(state == finding.state)));
                }
            }
        },
    ),
    gauge(
        "finding_retained_bytes",
        "Memory kept by a finding since the attach.",
        |t, s| {
            findings(t, s, |finding| finding.retained_bytes as f64);
        },
    ),
    gauge(
        "finding_bytes_per_new_token",
        "Bytes kept per request with a new token.",
        |t, s| {
            findings(t, s, |finding| finding.per_new_token);
        },
    ),
    gauge(
        "finding_bytes_per_repeat_token",
        "Bytes kept per request with a repeated token.",
        |t, s| {
            findings(t, s, |finding| finding.per_repeat_token);
        },
    ),
    gauge(
        "finding_bytes_per_request",
        "Bytes kept per request.",
        |t, s| {
            findings(t, s, |finding| finding.per_request);
        },
    ),
    gauge(
        "finding_growth_bytes_per_second",
        "Current growth of a finding.",
        |t, s| {
            findings(t, s, |finding| finding.growth);
        },
    ),
    gauge(
        "finding_confidence_ratio",
        "Part of a finding's evidence that was not lost.",
        |t, s| {
            findings(t, s, |finding| finding.confidence);
        },
    ),
    gauge(
        "time_to_oom_seconds",
        "Time until a finding has used up the memory limit.",
        |t, s| {
            for ((route, cause), finding) in &t.findings {
                let Some(oom) = finding.time_to_oom else {
                    continue;
                };
                for (estimate, value) in [("median", oom.median), ("early", oom.early)] {
                    s.push(
                        &[("route", route), ("cause", cause), ("estimate", estimate)],
                        value,
                    );
                }
            }
        },
    ),
    gauge(
        "finding_site_retained_bytes",
        "Memory kept by code locations of findings.",
        |t, s| {
            for (function, location, bytes) in &t.sites {
                s.push(
                    &[("function", function), ("location", location)],
                    *bytes as f64,
                );
            }
        },
    ),
    gauge(
        "finding_container_entries",
        "Entries of the containers of findings.",
        |t, s| {
            for (container, kind, entries) in &t.containers {
                s.push(&[("container", container), ("kind", kind)], *entries as f64);
            }
        },
    ),
    gauge(
        "site_live_bytes",
        "Live memory by code location, the biggest ones.",
        |t, s| {
            for site in t.report.live.top_sites.iter().take(super::target::SITES) {
                let labels = [("function", &*site.function), ("location", &site.location)];
                s.push(&labels, site.bytes as f64);
            }
        },
    ),
    counter(
        "requests",
        "Requests that ended, by route and token class.",
        |t, s| {
            for (name, route) in &t.routes {
                let none = route
                    .requests
                    .saturating_sub(route.new_tokens.saturating_add(route.repeat_tokens));
                for (class, count) in [
                    ("new", route.new_tokens),
                    ("repeat", route.repeat_tokens),
                    ("none", none),
                ] {
                    s.push(&[("route", name), ("token", class)], count as f64);
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
        "99th percentile of latency, by route.",
        |t, s| {
            for (name, route) in &t.routes {
                s.push(&[("route", name)], route.p99_seconds);
            }
        },
    ),
    gauge(
        "distinct_tokens",
        "Distinct credentials seen, estimated.",
        |t, s| {
            s.push(&[], t.report.window.distinct_tokens as f64);
        },
    ),
    gauge(
        "requests_seen",
        "1 while requests are traced, 0 while tracing is paused to stay within the overhead budget.",
        |t, s| {
            s.push(&[], f64::from(u8::from(t.report.window.requests_seen)));
        },
    ),
    gauge("rss_bytes", "Resident memory of the process.", |t, s| {
        s.push(&[], t.report.memory.rss_end_bytes as f64);
    }),
    gauge(
        "live_bytes",
        "Bytes allocated and not freed since the attach.",
        |t, s| {
            s.push(&[], t.report.memory.live_bytes as f64);
        },
    ),
    gauge(
        "live_blocks",
        "Blocks allocated and not freed since the attach.",
        |t, s| {
            s.push(&[], t.report.memory.live_blocks as f64);
        },
    ),
    gauge(
        "leak_bound_bytes_per_second",
        "Largest growth that could have been missed (95 %), if nothing was found.",
        |t, s| {
            if let Some(bound) = &t.report.bound {
                s.push(&[], bound.bytes_per_second);
            }
        },
    ),
    gauge(
        "tokens_resident_ratio",
        "Part of the tokens searched for that is in the target's memory, over all ages.",
        |t, s| {
            if let Some(residency) = t.report.residency.as_ref().filter(|one| one.tokens > 0) {
                s.push(&[], residency.resident as f64 / residency.tokens as f64);
            }
        },
    ),
    gauge(
        "tokens_searched",
        "Tokens searched for in the target's memory, by the minimum seconds since their last request.",
        |t, s| ages(t, s, |age| age.tokens),
    ),
    gauge(
        "tokens_resident",
        "Tokens found in the target's memory, by the minimum seconds since their last request.",
        |t, s| ages(t, s, |age| age.resident),
    ),
    gauge(
        "tokens_searched_bytes",
        "Memory of the target that was searched for tokens.",
        |t, s| {
            if let Some(residency) = &t.report.residency {
                s.push(&[], residency.scanned_bytes as f64);
            }
        },
    ),
    gauge(
        "live_growth_bytes",
        "Growth since the attach of memory that outlived its request.",
        |t, s| {
            s.push(&[], t.report.memory.live_growth_bytes as f64);
        },
    ),
    gauge(
        "memory_used_bytes",
        "Bytes used of the memory limit.",
        |t, s| {
            s.push(&[], t.report.memory.used_bytes as f64);
        },
    ),
    gauge(
        "memory_limit_bytes",
        "The smallest memory limit that applies.",
        |t, s| {
            if let Some(limit) = t.report.memory.limit_bytes {
                s.push(&[], limit as f64);
            }
        },
    ),
    counter("losses", "Observations that were lost, by kind.", |t, s| {
        let health = &t.report.health;
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
            s.push(&[], t.report.health.unknown_frees as f64);
        },
    ),
    counter(
        "sampled_out_blocks",
        "Blocks left out by sampling; estimates count them.",
        |t, s| {
            s.push(&[], t.report.health.sampled_out as f64);
        },
    ),
    counter("probe_hits", "Times a probe ran in the process.", |t, s| {
        s.push(&[], t.report.health.probe_hits as f64);
    }),
    counter(
        "probe_seconds",
        "CPU time that probes cost the process, by calibration and measurement.",
        |t, s| {
            s.push(&[], t.report.health.probe_seconds);
        },
    ),
    gauge(
        "overhead_ratio",
        "Probe time divided by the CPU time of the process.",
        |t, s| {
            s.push(&[], t.report.health.overhead_ratio);
        },
    ),
    gauge("map_bytes", "Kernel memory held by the maps.", |t, s| {
        s.push(&[], t.report.health.map_bytes as f64);
    }),
];
