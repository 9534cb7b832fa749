//! The report as one HTML page that loads nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::format::{
    base_name, bytes, cause, count, counted, duration, overhead, printable, state,
};
use super::format::{site_location, verdict};
use super::text::{kept, losses, place};
use super::{FileOutput, OutputError, file, flamegraph};
use heaptide_judge::report::{Finding, FindingState, Ledger, Report, ResidencySummary, Verdict};
use heaptide_judge::stacks::LiveStacks;

/// Size of the timeline, pixels.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
/// Maximum number of routes, and of characters of a sentence.
const ROUTES: usize = 500;
const SENTENCE: usize = 600;
/// Height of the frame around the flame graph, pixels.
const FRAME: usize = 560;

/// `--html`.
pub static OUTPUT: FileOutput = FileOutput {
    flag: "html",
    value: "FILE.html",
    help: "Write the report as an HTML page, with a timeline and the flame graph",
    write,
};

fn write(report: &Report, stacks: &LiveStacks, path: &Path) -> Result<(), OutputError> {
    file::write("the HTML page", path, render(report, stacks).as_bytes())
}

/// A list of services with their verdicts, and links to their pages.
pub fn list(reports: &BTreeMap<String, Report>) -> String {
    let body = html! {
        h1 { "heaptide" }
        @if reports.is_empty() { p { "No service is observed." } }
        table { @for (service, report) in reports {
            tr {
                td { a href=(link(service)) { (printable(service, SENTENCE)) } }
                td { span class=(class(report.verdict)) { (verdict(report.verdict)) } }
                td { (printable(&report.reason, SENTENCE)) }
            }
        } }
    };
    page("heaptide", &body).into_string()
}

/// The path of a service's page, with all bytes escaped that have a meaning in a URL.
fn link(service: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    let escaped: String = service.bytes().map(escape).collect();
    format!("/report/{escaped}")
}

/// A page that loads nothing, whatever a name in it says.
fn page(title: &str, body: &Markup) -> Markup {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(include_str!("html.css"))) }
            }
            body { (body) }
        }
    }
}

/// The page.
pub fn render(report: &Report, stacks: &LiveStacks) -> String {
    let name = base_name(&report.target.exe);
    let word = verdict(report.verdict);
    let body = html! {
        h1 { span class=(class(report.verdict)) { (word) } " " (printable(name, 60)) }
        p { (printable(&report.reason, SENTENCE)) }
        (observed(report))
        @for finding in &report.findings { (found(finding)) }
        (timeline(report))
        (routes(report))
        @if let Some(ledger) = &report.ledger { (balance(ledger)) }
        @if let Some(residency) = &report.residency { (residents(residency)) }
        (flames(report, stacks))
        (costs(report))
    };
    page(&format!("{word} - {}", printable(name, 60)), &body).into_string()
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Leak => "LEAK",
        Verdict::Suspect => "SUSPECT",
        Verdict::NoLeak => "NO",
        Verdict::InsufficientEvidence => "soft",
    }
}

fn observed(report: &Report) -> Markup {
    let (target, window, memory) = (&report.target, &report.window, &report.memory);
    html! {
        p class="soft" {
            "pid " (target.pid) ", " (target.runtime) ", mode " (target.mode) "; observed for "
            (duration(window.seconds)) ": " (counted(window.requests, "request", "requests")) ", "
            (counted(window.new_tokens, "new token", "new tokens")) "; RSS "
            (bytes(memory.rss_start_bytes as f64)) " to " (bytes(memory.rss_end_bytes as f64))
            @if let Some(limit) = memory.limit_bytes {
                "; " (bytes(memory.used_bytes as f64)) " of " (bytes(limit as f64)) " used"
            }
            "; heaptide " (report.version)
        }
        @if let Some(bound) = &report.bound {
            p class="soft" {
                "At most " (bytes(bound.bytes_per_second)) "/s could be leaking (95 %)."
                @if let Some(lasts) = bound.lasts_seconds {
                    " At that rate memory lasts " (duration(lasts)) "."
                }
            }
        }
    }
}

fn found(finding: &Finding) -> Markup {
    let growing = finding.state > FindingState::None;
    let class = match finding.state {
        FindingState::None => "finding",
        FindingState::Suspect => "finding suspect",
        FindingState::Confirmed => "finding confirmed",
    };
    html! {
        section class=(class) {
            strong { (printable(&finding.route, SENTENCE)) }
            " " span class="soft" {
                @if growing { (state(finding.state)) ", " } (cause(finding.cause))
            }
            div { code { (place(finding)) } }
            @if growing {
                div { (kept(finding)) }
                @if let Some(oom) = &finding.time_to_oom_seconds {
                    div {
                        "Out of memory in " strong { (duration(oom.median)) }
                        @if finding.retained_is_lower_bound { " or sooner." } @else { " (earliest " (duration(oom.early)) ")." }
                    }
                }
            }
            @if let Some(hint) = &finding.hint {
                div class="soft" { "Hint: " (printable(hint, SENTENCE)) }
            }
            details open[growing] {
                summary { "Evidence" }
                ul { @for one in &finding.evidence { li { (printable(one, SENTENCE)) } } }
                @if !finding.site.stack.is_empty() {
                    details {
                        summary { "Call stack" }
                        pre {
                            @for frame in &finding.site.stack {
                                (printable(&frame.function, SENTENCE)) "  "
                                (super::format::location(frame.file.as_deref(), frame.line, &frame.module)) "\n"
                            }
                        }
                    }
                }
                @for site in &finding.also {
                    div class="soft" {
                        "also " code { (site_location(site)) " " (printable(&site.function, SENTENCE)) } " ("
                        (bytes(site.retained_bytes as f64)) ")"
                    }
                }
            }
        }
    }
}

/// Resident and mature live memory over time.
fn timeline(report: &Report) -> Markup {
    let curve = &report.live.curve;
    let end = curve.last().map_or(0.0, |point| point.0);
    let top = curve.iter().map(|point| point.1.max(point.2)).max();
    let top = top.unwrap_or(0) as f64;
    if curve.len() < 2 || end <= 0.0 || top <= 0.0 {
        return html! {};
    }
    let line = |of: fn(&(f64, u64, u64)) -> u64| -> String {
        let place = |point: &(f64, u64, u64)| {
            let (x, y) = (
                point.0 / end * WIDTH,
                HEIGHT - of(point) as f64 / top * HEIGHT,
            );
            format!("{x:.1},{y:.1}")
        };
        curve.iter().map(place).collect::<Vec<_>>().join(" ")
    };
    let lines = [
        ("var(--rss)", "resident memory", line(|point| point.1)),
        (
            "var(--held)",
            "live blocks that outlived their requests",
            line(|point| point.2),
        ),
    ];
    let view = format!("-10 -10 {} {}", WIDTH + 20.0, HEIGHT + 50.0);
    html! {
        h2 { "Memory" }
        svg viewBox=(view) role="img" aria-label="memory over time" {
            line x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) stroke="var(--line)" {}
            @for (colour, name, points) in &lines {
                polyline points=(points) fill="none" stroke=(colour) stroke-width="2" { title { (name) } }
            }
            text x="0" y="0" { (bytes(top)) }
            text x="0" y=(HEIGHT + 14.0) { "0 s" }
            text x=(WIDTH) y=(HEIGHT + 14.0) text-anchor="end" { (duration(end)) }
            @for (index, (colour, name, _)) in lines.iter().enumerate() {
                rect x=(index * 220) y=(HEIGHT + 22.0) width="10" height="10" fill=(colour) {}
                text x=(index * 220 + 15) y=(HEIGHT + 31.0) { (name) }
            }
        }
    }
}

fn routes(report: &Report) -> Markup {
    if report.routes.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Routes" }
        div class="scroll" { table {
            tr {
                th { "route" } th class="number" { "requests" } th class="number" { "new tokens" }
                th class="number" { "repeated" } th class="number" { "kept" } th class="number" { "p99" }
            }
            @for route in report.routes.iter().take(ROUTES) {
                tr {
                    td { (printable(&route.route, SENTENCE)) }
                    td class="number" { (count(route.requests)) }
                    td class="number" { (count(route.new_tokens)) }
                    td class="number" { (count(route.repeat_tokens)) }
                    td class="number" { (bytes(route.retained_bytes as f64)) }
                    td class="number" { (format!("{:.1} ms", route.p99_seconds * 1e3)) }
                }
            }
        } }
        @if report.routes.len() > ROUTES {
            p class="soft" { "and " (report.routes.len() - ROUTES) " more" }
        }
    }
}

fn balance(ledger: &Ledger) -> Markup {
    let rows = [
        ("gained by the process", ledger.gained_bytes),
        ("growth of the findings", ledger.findings_bytes),
        (
            "caches, warm-up and other memory that is not a leak",
            ledger.benign_bytes,
        ),
        ("unexplained", ledger.unexplained_bytes),
    ];
    html! {
        h2 { "What explains the growth" }
        table { @for (name, sum) in rows {
            tr { td { (name) } td class="number" { (bytes(sum as f64)) } }
        } }
    }
}

fn residents(residency: &ResidencySummary) -> Markup {
    html! {
        h2 { "Tokens in memory" }
        p { (printable(&residency.said, SENTENCE)) "." }
        table {
            tr { th { "since the last request" } th class="number" { "tokens" } th class="number" { "in memory" } th {} }
            @for age in &residency.ages {
                tr {
                    td { "at least " (duration(age.at_least_seconds as f64)) }
                    td class="number" { (count(age.tokens)) }
                    td class="number" { (count(age.resident)) }
                    td { meter min="0" max=(age.tokens.max(1)) value=(age.resident) {} }
                }
            }
        }
    }
}

fn flames(report: &Report, stacks: &LiveStacks) -> Markup {
    html! {
        h2 { "Live memory by call stack" }
        @match stacks.missing(&report.target) {
            Some(why) => p { (why) },
            // In a document of its own, because its script takes over keys.
            None => iframe title="flame graph" height=(FRAME) sandbox="allow-scripts allow-modals"
                srcdoc=(flamegraph::render(stacks, base_name(&report.target.exe))) {},
        }
    }
}

fn costs(report: &Report) -> Markup {
    let health = &report.health;
    html! {
        h2 { "Losses and cost" }
        p {
            "Losses: " (losses(health)) ". The probes took " (overhead(report)) ": "
            (format!("{:.2}", health.probe_seconds)) " s. heaptide used "
            (format!("{:.1}", health.agent_cpu_seconds)) " s of CPU time and " (bytes(health.agent_rss_bytes as f64)) "."
        }
        @if !report.target.limitations.is_empty() {
            h2 { "Limitations" }
            ul { @for one in &report.target.limitations { li { (printable(one, SENTENCE)) } } }
        }
    }
}

#[cfg(test)]
mod tests;
