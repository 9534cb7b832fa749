//! Metrics of the agent itself.

use super::metric::{Metric, counter, gauge};
use crate::outputs::metrics::facts::Standing;
use crate::outputs::metrics::state::MetricsState;

pub(in crate::outputs::metrics) const AGENT: &[Metric<MetricsState>] = &[
    gauge("build_info", "Version of heaptide; always 1.", |_, s| {
        s.push(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    }),
    gauge("processes", "Processes observed now.", |state, s| {
        s.push(&[], state.processes() as f64);
    }),
    gauge(
        "healthy",
        "1 if /healthz answers 200, else 0.",
        |state, s| {
            s.push(&[], f64::from(u8::from(state.standing.unhealthy.is_none())));
        },
    ),
    gauge(
        "ready",
        "1 if /readyz answers 200: something is observed, or nothing should be.",
        |state, s| {
            let Standing { unhealthy, idle } = &state.standing;
            let is_ready = unhealthy.is_none() && idle.is_none();
            s.push(&[], f64::from(u8::from(is_ready)));
        },
    ),
    gauge(
        "config_last_reload_successful",
        "1 if all of the configuration file was in use after its last load, else 0.",
        |state, s| {
            if let Some(loaded) = state.loaded {
                s.push(&[], f64::from(u8::from(loaded.is_successful)));
            }
        },
    ),
    gauge(
        "config_last_reload_success_timestamp_seconds",
        "Unix time of the last load after which it was.",
        |state, s| {
            if let Some(loaded) = state.loaded {
                s.push(&[], loaded.success_at);
            }
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
    gauge(
        "kernel_map_bytes",
        "Kernel memory held by the maps that all targets share.",
        |state, s| {
            s.push(&[], state.agent.map_bytes as f64);
        },
    ),
    counter(
        "attach_errors",
        "Attempts to observe a process that failed, by reason.",
        |state, s| {
            for ((target, reason), count) in &state.attach_errors {
                s.push(&[("target", target), ("reason", reason)], *count as f64);
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
        "Changes of findings that were logged.",
        |state, s| {
            for ((target, change), count) in &state.alerts {
                s.push(&[("target", target), ("change", change)], *count as f64);
            }
        },
    ),
];
