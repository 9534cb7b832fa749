//! Formats numbers, times and names.

use std::borrow::Cow;

use heaptide_judge::report::{Cause, FindingState, Report, SiteSummary, Verdict};

/// `1,900` as `1.9 KiB`.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if !bytes.is_finite() {
        return "? B".to_owned();
    }
    let (mut value, mut unit) = (bytes.abs(), 0);
    // 1023.95 would print as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let sign = if bytes < 0.0 && value >= 0.5 { "-" } else { "" };
    match unit {
        0 => format!("{sign}{value:.0} B"),
        _ if value >= 99.95 => format!("{sign}{value:.0} {}", UNITS[unit]),
        _ => format!("{sign}{value:.1} {}", UNITS[unit]),
    }
}

/// `12410` as `12,410`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 request`, `2 requests`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `11400.0` as `3 h 10 m`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds >= 100.0 * 86_400.0 {
        return "more than 100 d".to_owned();
    }
    let whole = seconds.max(0.0).round() as u64;
    let two = |big: u64, big_unit, small: u64, small_unit| match small {
        0 => format!("{big} {big_unit}"),
        small => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "m", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "m"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// `0.012` as `1.2 %`.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent == 0.0 {
        "0 %".to_owned()
    } else if percent.abs() < 0.095 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// The cost of probes in both units: of a core, which is what it costs, and of the service's own CPU time, which is large
/// for a service that does little.
pub fn overhead(report: &Report) -> String {
    let of_core = report.health.probe_seconds / report.window.seconds.max(1.0);
    format!(
        "{} of a core ({} of the service's CPU)",
        percent(of_core),
        percent(report.health.overhead_ratio)
    )
}

/// A rate of events: `99.7/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{}/s", count(per_second.round() as u64))
    } else {
        format!("{per_second:.1}/s")
    }
}

/// Untrusted text, from the network or a binary, made safe for a terminal: no control characters, no
/// direction overrides, at most `max` characters.
pub fn printable(text: &str, max: usize) -> Cow<'_, str> {
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if text.len() <= max && !text.chars().any(unsafe_char) {
        return Cow::Borrowed(text);
    }
    let mut clean: String = text
        .chars()
        .map(|c| if unsafe_char(c) { '\u{fffd}' } else { c })
        .take(max + 1)
        .collect();
    if clean.chars().count() > max {
        while clean.chars().count() >= max.max(1) {
            clean.pop();
        }
        clean.push('…');
    }
    Cow::Owned(clean)
}

/// Base name of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(path)
}

/// `src/main.rs:17`: the last two parts of the path, or the module without a path.
pub fn location(file: Option<&str>, line: Option<u32>, module: &str) -> String {
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        return printable(module, 80).into_owned();
    };
    let cut = file
        .rmatch_indices('/')
        .nth(1)
        .map_or(0, |(index, _)| index + 1);
    let short = if file.starts_with('/') {
        &file[cut..]
    } else {
        file
    };
    let short = printable(short, 80);
    match line {
        Some(line) => format!("{short}:{line}"),
        None => short.into_owned(),
    }
}

/// Location of a site: `app.py:17`.
pub fn site_location(site: &SiteSummary) -> String {
    location(site.file.as_deref(), site.line, &site.module)
}

/// The word for a verdict in the JSON report.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Leak => "leak",
        Verdict::Suspect => "suspect",
        Verdict::NoLeak => "no_leak",
        Verdict::InsufficientEvidence => "insufficient_evidence",
    }
}

/// The word for a state in the JSON report.
pub fn state(state: FindingState) -> &'static str {
    match state {
        FindingState::None => "none",
        FindingState::Suspect => "suspect",
        FindingState::Confirmed => "confirmed",
    }
}

/// The word for a cause in the JSON report.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::TokenKeyed => "token_keyed",
        Cause::PerRequest => "per_request",
        Cause::Mixed => "mixed",
        Cause::Background => "background",
        Cause::Indeterminate => "indeterminate",
        Cause::BoundedCache => "bounded_cache",
        Cause::WarmUp => "warm_up",
        Cause::AllocatorRetention => "allocator_retention",
        Cause::WorkingSet => "working_set",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes() {
        for (value, text) in [
            (0.0, "0 B"),
            (0.2, "0 B"),
            (-0.2, "0 B"),
            (1023.0, "1023 B"),
            (1023.96, "1.0 KiB"),
            (1945.6, "1.9 KiB"),
            (-2048.0, "-2.0 KiB"),
            (150.0 * 1_048_576.0, "150 MiB"),
            (f64::NAN, "? B"),
            (1e30, "888178419700125 PiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn counts_and_durations() {
        assert_eq!(count(12_410), "12,410");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(counted(1, "block", "blocks"), "1 block");
        assert_eq!(duration(11_400.0), "3 h 10 m");
        assert_eq!(duration(59.4), "59 s");
        assert_eq!(duration(60.0), "1 m");
        assert_eq!(duration(-5.0), "0 s");
        assert_eq!(duration(200_000.0), "2 d 7 h");
        assert_eq!(duration(f64::INFINITY), "more than 100 d");
        assert_eq!(percent(0.012), "1.2 %");
        assert_eq!(percent(0.0004), "0.04 %");
    }

    #[test]
    fn printable_text_cannot_drive_a_terminal() {
        assert_eq!(printable("GET /a", 80), "GET /a");
        assert_eq!(printable("GET /\x1b[2J", 80), "GET /\u{fffd}[2J");
        assert_eq!(printable("a\u{202e}b", 80), "a\u{fffd}b");
        assert_eq!(printable("abcdef", 4), "abc…");
        assert_eq!(printable("ééé", 3), "ééé");
    }

    #[test]
    fn locations_are_short() {
        assert_eq!(
            location(Some("/root/.cargo/x/src/main.rs"), Some(17), "m"),
            "src/main.rs:17"
        );
        assert_eq!(location(Some("app.py"), Some(17), "m"), "app.py:17");
        assert_eq!(location(Some("/a.c"), None, "m"), "/a.c");
        assert_eq!(location(None, Some(17), "libfoo.so"), "libfoo.so");
        assert_eq!(base_name("/usr/bin/python3"), "python3");
    }
}
