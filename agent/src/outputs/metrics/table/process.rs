//! Metrics of each process of a target, exported with `process_metrics = true` only: every new process makes new series.

use super::metric::{Metric, counter, gauge};
use crate::outputs::format::base_name;
use heaptide_judge::report::{FindingState, Report};

pub(in crate::outputs::metrics) const PROCESS: &[Metric<Report>] = &[
    gauge(
        "process_info",
        "Executable and runtime of a process; always 1.",
        |report, s| {
            let target = &report.target;
            let labels = [
                ("exe", base_name(&target.exe)),
                ("runtime", &target.runtime),
            ];
            s.push(&labels, 1.0);
        },
    ),
    gauge(
        "process_rss_bytes",
        "Resident memory of a process.",
        |report, s| {
            s.push(&[], report.memory.rss_end_bytes as f64);
        },
    ),
    gauge(
        "process_live_bytes",
        "Bytes that a process has allocated and not freed since the attach.",
        |report, s| {
            s.push(&[], report.memory.live_bytes as f64);
        },
    ),
    gauge(
        "process_retained_bytes",
        "Memory kept by leaks and suspicions in a process.",
        |report, s| {
            let growing = report.findings.iter();
            let growing = growing.filter(|finding| finding.state > FindingState::None);
            let bytes: u64 = growing.map(|finding| finding.retained_bytes).sum();
            s.push(&[], bytes as f64);
        },
    ),
    counter(
        "process_requests",
        "Requests that ended in a process.",
        |report, s| {
            s.push(&[], report.window.requests as f64);
        },
    ),
    counter(
        "process_probe_hits",
        "Times a probe ran in a process.",
        |report, s| {
            s.push(&[], report.health.probe_hits as f64);
        },
    ),
    counter(
        "process_sampled_out_blocks",
        "Blocks of a process left out by sampling.",
        |report, s| {
            s.push(&[], report.health.sampled_out as f64);
        },
    ),
    gauge(
        "process_overhead_ratio",
        "Probe time divided by the CPU time of a process.",
        |report, s| {
            s.push(&[], report.health.overhead_ratio);
        },
    ),
];
