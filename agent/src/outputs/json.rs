//! The JSON report (`heaptide.report/v1`), to a file or standard output.

use std::path::Path;

use super::{OutputError, file};
use heaptide_judge::report::Report;

/// The report as indented JSON with a final newline.
pub fn render(report: &Report) -> Result<String, OutputError> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| OutputError::Encode {
            what: "the report",
            reason: error.to_string(),
        })
}

/// Writes the report to `path` atomically, or to standard output.
pub fn write(report: &Report, path: Option<&Path>) -> Result<(), OutputError> {
    file::write_or_print("the report", path, render(report)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::fixtures;
    use heaptide_judge::report::Live;

    #[test]
    fn a_report_survives_the_round_trip() {
        let mut report = fixtures::leak();
        let read: Report = serde_json::from_str(&render(&report).unwrap()).unwrap();
        report.live = Live::default();
        assert_eq!(read, report);
    }

    #[test]
    fn the_interface_has_its_names() {
        let value: serde_json::Value =
            serde_json::from_str(&render(&fixtures::leak()).unwrap()).unwrap();
        assert_eq!(value["schema"], "heaptide.report/v1");
        assert_eq!(value["verdict"], "leak");
        for path in [
            "/target/pid",
            "/target/exe",
            "/target/runtime",
            "/target/allocators",
            "/window/seconds",
            "/window/requests",
            "/window/new_tokens",
            "/window/repeat_tokens",
            "/memory/rss_start_bytes",
            "/memory/rss_end_bytes",
            "/memory/live_growth_bytes",
            "/memory/limit_bytes",
            "/findings/0/state",
            "/findings/0/cause",
            "/findings/0/route",
            "/findings/0/site/function",
            "/findings/0/site/file",
            "/findings/0/site/line",
            "/findings/0/site/module",
            "/findings/0/site/stack/0/function",
            "/findings/0/retained_bytes",
            "/findings/0/retained_bytes_per_new_token",
            "/findings/0/retained_bytes_per_request",
            "/findings/0/blocks",
            "/findings/0/matured_bytes",
            "/findings/0/evicted_bytes",
            "/findings/0/confidence",
            "/findings/0/binding",
            "/findings/0/time_to_oom_seconds/median",
            "/findings/0/time_to_oom_seconds/early",
            "/health/dropped_events",
            "/health/missed_returns",
            "/health/unknown_frees",
            "/health/map_full",
            "/health/probe_hits",
            "/health/probe_seconds",
            "/health/overhead_ratio",
        ] {
            assert!(value.pointer(path).is_some(), "{path}");
        }
    }
}
