//! The live view: a full screen on a terminal, else one status line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use super::format::{bytes, count, duration, overhead, printable, rate, verdict};
use super::{screen, text};
use heaptide_judge::report::{FindingState, Report, Verdict};

/// Seconds of observation between two status lines.
const EVERY: f64 = 5.0;

/// The view of one run of `attach`. The terminal is restored when it is dropped, and on a panic.
pub struct LiveView {
    screen: Option<DefaultTerminal>,
    status: Status,
}

impl LiveView {
    /// A full screen if standard output is a usable terminal. Else status lines on standard error, because
    /// standard output is for the report.
    pub fn new(is_terminal: bool) -> Self {
        let usable = is_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        // `try_init` also installs the panic hook that restores the terminal.
        let screen = usable.then(ratatui::try_init).and_then(|opened| match opened {
            Ok(screen) => Some(screen),
            Err(error) => {
                ratatui::restore();
                tracing::warn!(%error, "cannot use the terminal for the live view; status lines instead");
                None
            }
        });
        Self {
            screen,
            status: Status::default(),
        }
    }

    /// Whether it shows a full screen.
    pub fn is_full_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// Shows a report. If the terminal fails, the view changes to status lines.
    pub fn draw(&mut self, report: &Report) {
        if let Some(screen) = &mut self.screen {
            match screen.draw(|frame| screen::render(frame, report)) {
                Ok(_) => return,
                Err(error) => {
                    self.finish();
                    tracing::warn!(%error, "cannot draw the live view; status lines instead");
                }
            }
        }
        if let Some(line) = self.status.next(report) {
            // Standard error may be closed; then nothing can be reported.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Whether q, Esc or Ctrl-C was pressed since the last call. It does not wait. A terminal in raw mode
    /// sends Ctrl-C as a key, not as a signal. Without a full screen there are no keys, only signals.
    pub fn quit_requested(&mut self) -> bool {
        if self.screen.is_none() {
            return false;
        }
        while let Ok(true) = event::poll(Duration::ZERO) {
            match event::read() {
                Ok(Event::Key(key)) if is_quit(key) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Restores the terminal. The report is printed after this.
    pub fn finish(&mut self) {
        if self.screen.take().is_some()
            && let Err(error) = ratatui::try_restore()
        {
            tracing::warn!(%error, "cannot restore the terminal; run `reset`");
        }
    }
}

impl Default for LiveView {
    fn default() -> Self {
        Self::new(io::stdout().is_terminal())
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.finish();
    }
}

fn is_quit(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('c') => control,
            KeyCode::Char('q' | 'Q') => !control,
            KeyCode::Esc => true,
            _ => false,
        }
}

/// Decides when to print a status line.
#[derive(Debug, Default)]
struct Status {
    said: Option<(f64, Verdict)>,
}

impl Status {
    /// A line if enough time of the observation has passed or the verdict changed.
    fn next(&mut self, report: &Report) -> Option<String> {
        let now = report.window.seconds;
        if let Some((at, verdict)) = self.said
            && now - at < EVERY
            && verdict == report.verdict
        {
            return None;
        }
        self.said = Some((now, report.verdict));
        Some(status_line(report))
    }
}

/// The status line of a report.
fn status_line(report: &Report) -> String {
    let worst = report
        .findings
        .iter()
        .find(|finding| finding.state > FindingState::None);
    let finding = worst.map_or(String::new(), |finding| {
        format!(
            " {} {};",
            printable(&finding.route, 60),
            text::kept(finding)
        )
    });
    format!(
        "heaptide {}  {}:{finding} {} requests ({}), {} new tokens ({}), RSS {}, live {}, losses \
         {}, overhead {}",
        duration(report.window.seconds),
        verdict(report.verdict),
        count(report.window.requests),
        rate(report.live.requests_per_second),
        count(report.window.new_tokens),
        rate(report.live.new_tokens_per_second),
        bytes(report.memory.rss_end_bytes as f64),
        bytes(report.memory.live_bytes as f64),
        text::losses(&report.health),
        overhead(report),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::fixtures;

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then() {
        let mut status = Status::default();
        let mut report = fixtures::no_leak();
        report.window.seconds = 1.0;
        assert!(status.next(&report).is_some());
        report.window.seconds = 3.0;
        assert_eq!(status.next(&report), None);
        report.window.seconds = 6.0;
        assert!(status.next(&report).is_some());
        report.verdict = Verdict::Suspect;
        assert!(status.next(&report).is_some());
        assert_eq!(status.next(&report), None);
    }

    #[test]
    fn the_line_says_what_matters() {
        assert_eq!(
            status_line(&fixtures::leak()),
            "heaptide 1 m 4 s  leak: GET /api/data +1.9 KiB kept per new token, 0 B per repeated \
             token; 12,410 tokens, none freed; 24,820 requests (387/s), 12,410 new tokens (193/s), \
             RSS 124 MiB, live 60.0 MiB, losses none, overhead 1.2 % of a core (1.2 % of the service's CPU)"
        );
        assert!(!status_line(&fixtures::insufficient()).contains('\n'));
    }

    #[test]
    fn a_view_without_a_terminal_has_no_keys() {
        let mut view = LiveView::new(false);
        assert!(!view.is_full_screen());
        assert!(!view.quit_requested());
        view.draw(&fixtures::leak());
        view.finish();
        view.finish();
    }

    #[test]
    fn keys_that_quit() {
        let key = |code, modifiers| is_quit(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Char('x'), KeyModifiers::NONE));
    }
}
