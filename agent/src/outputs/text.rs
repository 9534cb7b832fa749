//! The report as text.

mod kept;

use std::fmt::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use super::format::{
    base_name, bytes, cause, count, counted, duration, overhead, percent, printable, state,
};
use super::format::{location, site_location, verdict};
use super::{OutputError, file};
use heaptide_judge::events::{Binding, Frame, LimitScope};
use heaptide_judge::report::{Basis, Cause, Finding, FindingState, Health, Report, Verdict};

use kept::{NAME, container_line, freed};
pub use kept::{kept, place};

/// Routes in the table.
const ROUTES: usize = 8;
/// Frames of a stack.
const FRAMES: usize = 12;

/// Writes the report to `path` atomically, or to standard output.
pub fn write(report: &Report, path: Option<&Path>) -> Result<(), OutputError> {
    file::write_or_print("the report", path, render(report).as_bytes())
}

/// The verdict, its evidence, and the losses.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    match report.verdict {
        Verdict::Leak | Verdict::Suspect => {}
        Verdict::NoLeak => text.push_str("NO LEAK\n"),
        Verdict::InsufficientEvidence => text.push_str("INSUFFICIENT EVIDENCE\n"),
    }
    let growing = || {
        report
            .findings
            .iter()
            .filter(|finding| finding.state > FindingState::None)
    };
    for finding in growing() {
        push_finding(&mut text, finding);
    }
    // Without a growing finding the reason explains the verdict.
    if growing().next().is_none() && !report.reason.is_empty() {
        line(&mut text, 1, &printable(&report.reason, 400));
    }
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.state == FindingState::None)
    {
        push_harmless(&mut text, finding);
    }
    text.push('\n');
    push_observed(&mut text, report);
    push_routes(&mut text, report);
    push_health(&mut text, report);
    for limitation in &report.target.limitations {
        line(
            &mut text,
            0,
            &format!("limitation  {}", printable(limitation, 400)),
        );
    }
    text
}

fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:width$}{content}", "", width = 2 * indent);
}

fn push_finding(text: &mut String, finding: &Finding) {
    if !text.is_empty() {
        text.push('\n');
    }
    let word = if finding.state == FindingState::Confirmed {
        "LEAK"
    } else {
        "SUSPECT"
    };
    let place = place(finding);
    line(
        text,
        0,
        &format!(
            "{word} ({}, {})  {}  {place}",
            cause(finding.cause),
            state(finding.state),
            printable(&finding.route, NAME)
        ),
    );
    if let Some(container) = &finding.container {
        line(text, 1, &container_line(container));
    }
    line(text, 1, &kept(finding));
    if let Some(oom) = finding.time_to_oom_seconds {
        let (median, early) = (duration(oom.median), duration(oom.early));
        let earliest = if median == early {
            String::new()
        } else {
            format!(" (earliest {early})")
        };
        let said = if finding.retained_is_lower_bound {
            format!("out of memory in {median} or sooner")
        } else {
            format!("out of memory in {median}{earliest}")
        };
        line(text, 1, &said);
    }
    if let Some(hint) = &finding.hint {
        line(text, 1, &format!("hint: {}", printable(hint, 400)));
    }
    line(text, 1, &confidence(finding));
    for evidence in &finding.evidence {
        line(text, 1, &format!("evidence: {}", printable(evidence, 400)));
    }
    if !finding.site.stack.is_empty() {
        line(text, 1, "kept by:");
        for frame in finding.site.stack.iter().take(FRAMES) {
            line(text, 2, &frame_line(frame));
        }
        if let Some(more) = finding
            .site
            .stack
            .len()
            .checked_sub(FRAMES)
            .filter(|more| *more > 0)
        {
            line(
                text,
                2,
                &format!("({} more)", counted(more as u64, "frame", "frames")),
            );
        }
    }
    for site in &finding.also {
        line(
            text,
            1,
            &format!(
                "also: {} {} ({})",
                site_location(site),
                printable(&site.function, NAME),
                bytes(site.retained_bytes as f64)
            ),
        );
    }
}

fn frame_line(frame: &Frame) -> String {
    let place = location(frame.file.as_deref(), frame.line, &frame.module);
    format!("{}  {place}", printable(&frame.function, NAME))
}

fn confidence(finding: &Finding) -> String {
    let binding = match finding.binding {
        _ if finding.basis != Basis::Blocks => "route and cause by regression on request counts",
        Binding::Exact => "blocks bound to their requests exactly",
        Binding::Inferred => {
            "blocks bound to their requests by inference (several share a \
             thread)"
        }
        Binding::None => "blocks not bound to requests",
    };
    let mut text = format!("confidence {}, {binding}", percent(finding.confidence));
    if let Some(after) = finding.suspected_after_seconds {
        let _ = write!(text, "; suspected after {}", duration(after));
    }
    if let Some(after) = finding.confirmed_after_seconds {
        let _ = write!(text, ", confirmed after {}", duration(after));
    }
    text
}

fn push_harmless(text: &mut String, finding: &Finding) {
    let why = match finding.cause {
        Cause::BoundedCache => "a bounded cache: it evicts as much as it adds",
        Cause::WarmUp => "a warm-up: growth slows down and stops",
        Cause::AllocatorRetention => "freed memory that the allocator keeps",
        Cause::WorkingSet => "memory of requests in flight",
        _ => "too little evidence for a suspicion",
    };
    line(
        text,
        1,
        &format!(
            "not a leak ({})  {}  {} {}",
            cause(finding.cause),
            printable(&finding.route, NAME),
            site_location(&finding.site),
            printable(&finding.site.function, NAME),
        ),
    );
    let kept = format!(
        "{} held in {}, {}",
        bytes(finding.retained_bytes as f64),
        counted(finding.blocks, "block", "blocks"),
        freed(finding)
    );
    line(text, 2, &format!("{kept}: {why}"));
}

fn push_observed(text: &mut String, report: &Report) {
    let target = &report.target;
    let allocators = if target.allocators.is_empty() {
        "none".to_owned()
    } else {
        target.allocators.join(", ")
    };
    line(
        text,
        0,
        &format!(
            "observed    {} (pid {}), runtime {}, allocators {}, mode {}, {}",
            printable(base_name(&target.exe), NAME),
            target.pid,
            printable(&target.runtime, NAME),
            printable(&allocators, NAME),
            target.mode,
            duration(report.window.seconds)
        ),
    );
    let window = &report.window;
    line(
        text,
        0,
        &format!(
            "traffic     {}: {} with a new token, {} repeated, {} without; {}",
            counted(window.requests, "request", "requests"),
            count(window.new_tokens),
            count(window.repeat_tokens),
            count(window.anonymous),
            counted(window.distinct_tokens, "distinct token", "distinct tokens"),
        ),
    );
    let memory = &report.memory;
    let limit = memory.limit_bytes.map_or("no limit".to_owned(), |limit| {
        let whose = match memory.limit_scope {
            LimitScope::Process => "",
            LimitScope::ControlGroup => " by its control group",
            LimitScope::Host => " on this host",
        };
        format!(
            "{} of {} used{whose}",
            bytes(memory.used_bytes as f64),
            bytes(limit as f64)
        )
    });
    let sign = if memory.live_growth_bytes < 0 {
        ""
    } else {
        "+"
    };
    line(
        text,
        0,
        &format!(
            "memory      RSS {} -> {}, live {} in {}, growth {sign}{}, {limit}",
            bytes(memory.rss_start_bytes as f64),
            bytes(memory.rss_end_bytes as f64),
            bytes(memory.live_bytes as f64),
            counted(memory.live_blocks, "block", "blocks"),
            bytes(memory.live_growth_bytes as f64),
        ),
    );
    if let Some(ledger) = &report.ledger {
        line(
            text,
            0,
            &format!(
                "gained      {}: {} by findings, {} by caches and other benign memory, {} unexplained",
                bytes(ledger.gained_bytes as f64),
                bytes(ledger.findings_bytes as f64),
                bytes(ledger.benign_bytes as f64),
                bytes(ledger.unexplained_bytes as f64),
            ),
        );
    }
    for process in &report.processes {
        line(
            text,
            0,
            &format!(
                "process     pid {}: {}, {}, RSS {}, {} kept",
                process.pid,
                verdict(process.verdict),
                counted(process.requests, "request", "requests"),
                bytes(process.rss_bytes as f64),
                bytes(process.retained_bytes as f64)
            ),
        );
    }
    if let Some(residency) = &report.residency {
        line(
            text,
            0,
            &format!(
                "tokens      {}; {} searched",
                residency.said,
                bytes(residency.scanned_bytes as f64)
            ),
        );
    }
}

fn push_routes(text: &mut String, report: &Report) {
    if report.routes.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["route", "requests", "new", "repeated", "kept", "p99"]);
    for route in report.routes.iter().take(ROUTES) {
        table.add_row([
            printable(&route.route, 60).into_owned(),
            count(route.requests),
            count(route.new_tokens),
            count(route.repeat_tokens),
            bytes(route.retained_bytes as f64),
            format!("{:.1} ms", route.p99_seconds * 1e3),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text.push('\n');
    for row in table.lines() {
        line(text, 0, row.trim_end());
    }
    if let Some(more) = report
        .routes
        .len()
        .checked_sub(ROUTES)
        .filter(|more| *more > 0)
    {
        line(text, 0, &format!(" and {more} more"));
    }
    text.push('\n');
}

/// The losses, or `none`: `3 events dropped, 1 stack truncated`.
pub fn losses(health: &Health) -> String {
    let of = |number: u64, one: &str, many: &str| (number > 0).then(|| counted(number, one, many));
    let lost: Vec<String> = [
        of(health.dropped_events, "event dropped", "events dropped"),
        of(
            health.map_full,
            "block refused by a full map",
            "blocks refused by a full map",
        ),
        of(health.missed_returns, "return missed", "returns missed"),
        of(health.lost_frees, "free lost", "frees lost"),
        of(
            health.stacks_full,
            "stack refused by a full map",
            "stacks refused by a full map",
        ),
        of(
            health.stacks_truncated,
            "stack truncated",
            "stacks truncated",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if lost.is_empty() {
        "none".to_owned()
    } else {
        lost.join(", ")
    }
}

fn push_health(text: &mut String, report: &Report) {
    let health = &report.health;
    line(text, 0, &format!("losses      {}", losses(health)));
    if health.unknown_frees > 0 || health.sampled_out > 0 {
        line(
            text,
            0,
            &format!(
                "            (no losses: {} of blocks older than the attach or sampled out, {})",
                counted(health.unknown_frees, "free", "frees"),
                counted(
                    health.sampled_out,
                    "block sampled out",
                    "blocks sampled out"
                ),
            ),
        );
    }
    line(
        text,
        0,
        &format!(
            "overhead    {}: {:.2} s in {}",
            overhead(report),
            health.probe_seconds,
            counted(health.probe_hits, "probe hit", "probe hits"),
        ),
    );
    line(
        text,
        0,
        &format!(
            "heaptide    {} resident, {} of kernel maps, {:.1} s CPU",
            bytes(health.agent_rss_bytes as f64),
            bytes(health.map_bytes as f64),
            health.agent_cpu_seconds
        ),
    );
}

#[cfg(test)]
mod tests;
