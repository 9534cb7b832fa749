//! The full screen of the live view: its layout at any size.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Row, Table, Wrap};

use super::format::cause;
use super::format::{base_name, bytes, count, duration, overhead, printable, rate};
use super::text;
use heaptide_judge::report::{Finding, FindingState, Report, Verdict};

/// Maximum number of findings.
const FINDINGS: usize = 3;

/// Draws a report. A small screen omits parts; the verdict is the last to go.
pub(super) fn render(frame: &mut Frame<'_>, report: &Report) {
    let area = frame.area();
    let verdict = verdict_lines(report);
    if area.height < 8 || area.width < 40 {
        frame.render_widget(Paragraph::new(verdict).wrap(Wrap { trim: true }), area);
        return;
    }
    let curve = if area.height >= 20 {
        Constraint::Min(7)
    } else {
        Constraint::Length(0)
    };
    let tables = if area.height >= 14 {
        Constraint::Min(4)
    } else {
        Constraint::Length(0)
    };
    let head = (verdict.len() as u16).min(area.height.saturating_sub(4));
    let [title, head, curve, tables, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(head),
        curve,
        tables,
        Constraint::Length(2),
    ])
    .areas(area);
    frame.render_widget(title_line(report), title);
    frame.render_widget(Paragraph::new(verdict), head);
    if curve.height >= 5 {
        render_curve(frame, curve, report);
    }
    render_tables(frame, tables, report);
    frame.render_widget(Paragraph::new(foot_lines(report)), foot);
}

fn title_line(report: &Report) -> Line<'static> {
    let target = &report.target;
    Line::from(format!(
        " heaptide  {} (pid {})  {}  {}  mode {}  {}",
        printable(base_name(&target.exe), 40),
        target.pid,
        printable(&target.runtime, 30),
        printable(&target.allocators.join(", "), 40),
        target.mode,
        duration(report.window.seconds),
    ))
    .style(Style::new().add_modifier(Modifier::REVERSED))
}

fn verdict_lines(report: &Report) -> Vec<Line<'static>> {
    let (word, colour) = match report.verdict {
        Verdict::Leak => ("LEAK", Color::Red),
        Verdict::Suspect => ("SUSPECT", Color::Yellow),
        Verdict::NoLeak => ("NO LEAK", Color::Green),
        Verdict::InsufficientEvidence => ("INSUFFICIENT EVIDENCE", Color::Gray),
    };
    let growing: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.state > FindingState::None)
        .collect();
    let word = Span::styled(word, Style::new().fg(colour).add_modifier(Modifier::BOLD));
    if growing.is_empty() {
        return vec![Line::from(vec![
            word,
            Span::raw("  "),
            Span::raw(printable(&report.reason, 200).into_owned()),
        ])];
    }
    let mut lines = Vec::new();
    for finding in growing.iter().take(FINDINGS) {
        let confirmed = finding.state == FindingState::Confirmed;
        let word = if confirmed {
            "LEAK".red().bold()
        } else {
            "SUSPECT".yellow().bold()
        };
        lines.push(Line::from(vec![
            word,
            Span::raw(format!(
                " ({})  {}  {}",
                cause(finding.cause),
                printable(&finding.route, 60),
                text::place(finding)
            )),
        ]));
        lines.push(Line::from(format!("  {}", text::kept(finding))));
        if let Some(oom) = finding.time_to_oom_seconds {
            let sooner = if finding.retained_is_lower_bound {
                " or sooner".to_owned()
            } else {
                format!(" (earliest {})", duration(oom.early))
            };
            lines.push(Line::from(format!(
                "  out of memory in {}{sooner}",
                duration(oom.median)
            )));
        }
    }
    if growing.len() > FINDINGS {
        lines.push(Line::from(format!(
            "  and {} more",
            growing.len() - FINDINGS
        )));
    }
    lines
}

/// RSS and mature live bytes over time.
fn render_curve(frame: &mut Frame<'_>, area: Rect, report: &Report) {
    let curve = &report.live.curve;
    let points = |value: fn(&(f64, u64, u64)) -> u64| -> Vec<(f64, f64)> {
        curve
            .iter()
            .map(|point| (point.0, value(point) as f64))
            .collect()
    };
    let (rss, live) = (points(|point| point.1), points(|point| point.2));
    let from = curve.first().map_or(0.0, |point| point.0);
    // An axis of zero length would cause a division by zero.
    let to = curve.last().map_or(1.0, |point| point.0).max(from + 1.0);
    let top = rss
        .iter()
        .chain(&live)
        .map(|point| point.1)
        .fold(1.0, f64::max)
        * 1.05;
    let dataset = |name, colour, data| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(data)
    };
    let chart = Chart::new(vec![
        dataset("RSS", Color::Blue, &rss),
        dataset("kept", Color::Red, &live),
    ])
    .block(Block::bordered().title(" memory: RSS, and memory that outlived its request "))
    .x_axis(
        Axis::default()
            .bounds([from, to])
            .labels([duration(from), duration(to)]),
    )
    .y_axis(Axis::default().bounds([0.0, top]).labels([
        bytes(0.0),
        bytes(top / 2.0),
        bytes(top),
    ]));
    frame.render_widget(chart, area);
}

fn render_tables(frame: &mut Frame<'_>, area: Rect, report: &Report) {
    if area.height < 3 {
        return;
    }
    // Side by side if the screen is wide enough, else one below the other, else routes only.
    if area.width >= 100 {
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
        render_routes(frame, left, report);
        render_sites(frame, right, report);
    } else if area.height >= 8 {
        let [upper, lower] = Layout::vertical([Constraint::Fill(1); 2]).areas(area);
        render_routes(frame, upper, report);
        render_sites(frame, lower, report);
    } else {
        render_routes(frame, area, report);
    }
}

fn right(text: String) -> ratatui::text::Text<'static> {
    ratatui::text::Text::from(text).alignment(Alignment::Right)
}

fn render_routes(frame: &mut Frame<'_>, area: Rect, report: &Report) {
    let rows = report
        .routes
        .iter()
        .take(usize::from(area.height))
        .map(|route| {
            Row::new([
                printable(&route.route, 60).into_owned().into(),
                right(count(route.requests)),
                right(count(route.new_tokens)),
                right(bytes(route.retained_bytes as f64)),
            ])
        });
    let widths = [
        Constraint::Fill(1),
        Constraint::Max(11),
        Constraint::Max(11),
        Constraint::Max(9),
    ];
    let head = [
        "route".into(),
        right("requests".into()),
        right("new".into()),
        right("kept".into()),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(head).add_modifier(Modifier::DIM))
        .block(Block::bordered().title(" routes "));
    frame.render_widget(table, area);
}

fn render_sites(frame: &mut Frame<'_>, area: Rect, report: &Report) {
    let rows = report
        .live
        .top_sites
        .iter()
        .take(usize::from(area.height))
        .map(|site| {
            Row::new([
                printable(&site.function, 60).into_owned().into(),
                printable(&site.location, 40).into_owned().into(),
                right(bytes(site.bytes as f64)),
                right(count(site.blocks)),
            ])
        });
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Max(9),
        Constraint::Max(11),
    ];
    let head = [
        "site".into(),
        "at".into(),
        right("live".into()),
        right("blocks".into()),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(head).add_modifier(Modifier::DIM))
        .block(Block::bordered().title(" sites by live bytes "));
    frame.render_widget(table, area);
}

fn foot_lines(report: &Report) -> Vec<Line<'static>> {
    let (live, health) = (&report.live, &report.health);
    let losses = text::losses(health);
    let colour = if losses == "none" {
        Color::Reset
    } else {
        Color::Yellow
    };
    vec![
        Line::from(vec![
            Span::raw(format!(
                " {} requests, {} new tokens, RSS {}, live {}, losses ",
                rate(live.requests_per_second),
                rate(live.new_tokens_per_second),
                bytes(report.memory.rss_end_bytes as f64),
                bytes(report.memory.live_bytes as f64),
            )),
            Span::styled(losses, Style::new().fg(colour)),
        ]),
        Line::from(format!(
            " q quits   overhead {}, heaptide {} + {} kernel, {:.1} s CPU",
            overhead(report),
            bytes(health.agent_rss_bytes as f64),
            bytes(health.map_bytes as f64),
            health.agent_cpu_seconds,
        )),
    ]
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use heaptide_judge::fixtures;

    fn drawn(width: u16, height: u16, report: &Report) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| render(frame, report)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_big_screen_has_everything() {
        let screen = drawn(140, 40, &fixtures::leak());
        for part in [
            "python3.11 (pid 4711)",
            "LEAK (token_keyed)  GET /api/data  app.py:17 get_data",
            "+1.9 KiB kept per new token",
            "out of memory in 3 h 10 m",
            "memory: RSS",
            " routes ",
            "24,810",
            " sites by live bytes ",
            "160,000",
            "387/s requests",
            "losses none",
            "overhead 1.2 %",
            "q quits",
        ] {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_usual_screen_has_both_tables_and_the_curve() {
        let screen = drawn(80, 24, &fixtures::leak());
        for part in [
            "LEAK",
            "out of memory in 3 h",
            "memory: RSS",
            " routes ",
            "q quits",
        ] {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_small_screen_keeps_the_verdict() {
        assert!(drawn(60, 10, &fixtures::leak()).contains("LEAK (token_keyed)"));
        assert!(drawn(30, 3, &fixtures::leak()).contains("LEAK"));
    }

    #[test]
    fn no_size_and_no_report_panics() {
        let mut empty = fixtures::insufficient();
        empty.live = heaptide_judge::report::Live::default();
        empty.routes.clear();
        let mut flat = fixtures::leak();
        flat.live.curve = vec![(5.0, 0, 0)];
        for report in [
            fixtures::leak(),
            fixtures::suspect(),
            fixtures::no_leak(),
            empty,
            flat,
        ] {
            for width in [1, 2, 10, 39, 40, 79, 80, 99, 100, 200] {
                for height in [1, 2, 7, 8, 13, 14, 15, 19, 20, 60] {
                    drawn(width, height, &report);
                }
            }
        }
    }
}
