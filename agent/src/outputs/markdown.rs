//! The results of `heaptide check` as Markdown, for the summary of a CI system.

use std::{fmt::Write as _, path::Path};

use super::{
    OutputError,
    check::{Checked, Overall, headline},
    file,
    text::kept,
};

/// Writes the summary to `path` atomically.
pub fn write(checked: &Checked<'_>, path: &Path) -> Result<(), OutputError> {
    file::write("the Markdown summary", path, render(checked).as_bytes())
}

/// The results as a table (GitHub flavoured Markdown).
pub fn render(checked: &Checked<'_>) -> String {
    let mut text = format!(
        "### heaptide check: {}\n\n{}\n\n| result | policy | reason |\n| --- | --- | --- |\n",
        checked.overall().word(),
        escaped(&checked.subject())
    );
    for row in checked.rows() {
        let mut reason = escaped(&row.said);
        for finding in row.findings {
            let said = escaped(&headline(finding));
            // Writing to a string cannot fail.
            let _ = write!(reason, "<br>**{said}**<br>{}", escaped(&kept(finding)));
        }
        let sign = match row.overall {
            Overall::Passed => "✅",
            Overall::Failed { .. } => "❌",
            Overall::Undecided | Overall::TargetEnded | Overall::LoadFailed => "⚠️",
        };
        let _ = writeln!(
            text,
            "| {sign} {} | {}: {} | {reason} |",
            row.overall.word(),
            escaped(row.name),
            escaped(&row.demand)
        );
    }
    text
}

/// Text without any Markdown or HTML, on one line: what could be either becomes a numeric character reference, which
/// Markdown never takes for structure.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // A name with a dot could be taken for a link (`www.`).
            ' ' | '/' | '-' | ',' | ';' | '(' | ')' | '%' | '=' => out.push(c),
            '.' if !out.to_ascii_lowercase().ends_with("www") => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c if c.is_control() => out.push(' '),
            c if c.is_ascii() => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::check::tests;

    #[test]
    fn a_hostile_route_stays_in_its_cell() {
        let report = tests::report();
        let text = render(&tests::checked(&report));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "### heaptide check: FAILED");
        let rows = &lines[4..];
        assert_eq!(rows.len(), 2 + 4, "{text}");
        for row in rows {
            assert_eq!(row.matches('|').count(), 4, "{row}");
            assert!(row.starts_with("| ") && row.ends_with(" |"), "{row}");
            let plain = row.replace("<br>", "").replace("**", "");
            for bad in [
                "<", ">", "`", "*", "_", "[", "]", "@", " #1", "www.", "$a", "~", "\\", "!",
            ] {
                assert!(!plain.contains(bad), "{bad} in {row}");
            }
        }
        assert!(
            rows[2].contains("<br>**GET /a&#124;b&#96;c&#96;&#60;/td&#62;&#60;script&#62;"),
            "{}",
            rows[2]
        );
        assert!(
            rows[2].contains("app.py&#58;17 get&#95;data**"),
            "{}",
            rows[2]
        );
        assert!(
            rows[5].contains("load failed") && rows[5].contains("exited with 7"),
            "{}",
            rows[5]
        );
    }
}
