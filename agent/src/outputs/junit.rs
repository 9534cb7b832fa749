//! The results of `heaptide check` as `JUnit` XML: one test case per policy.
//!
//! A failed policy is a `failure`; an undecided one, and whatever kept the check from its end, is an `error`.

use std::{fmt::Write as _, path::Path};

use super::{
    OutputError,
    check::{Checked, Overall, Row, headline},
    file,
    text::kept,
};

/// Writes the results to `path` atomically.
pub fn write(checked: &Checked<'_>, path: &Path) -> Result<(), OutputError> {
    file::write("the JUnit results", path, render(checked).as_bytes())
}

/// The results as XML.
pub fn render(checked: &Checked<'_>) -> String {
    let rows = checked.rows();
    let number =
        |wanted: fn(Overall) -> bool| rows.iter().filter(|row| wanted(row.overall)).count();
    let failures = number(|one| matches!(one, Overall::Failed { .. }));
    let errors = number(|one| one != Overall::Passed) - failures;
    let seconds = checked.report.window.seconds;
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\"",
        rows.len()
    );
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    // Writing to a string cannot fail.
    let _ = writeln!(
        xml,
        "<testsuites name=\"heaptide\" {counts} time=\"{seconds:.1}\">"
    );
    let program = escaped(&checked.program());
    let _ = writeln!(
        xml,
        "  <testsuite name=\"heaptide check: {program}\" {counts} skipped=\"0\" time=\"{seconds:.1}\">"
    );
    let _ = writeln!(
        xml,
        "    <properties><property name=\"observed\" value=\"{}\"/></properties>",
        escaped(&checked.subject())
    );
    for row in &rows {
        push_case(&mut xml, &program, row, seconds);
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn push_case(xml: &mut String, program: &str, row: &Row<'_>, seconds: f64) {
    let _ = write!(
        xml,
        "    <testcase classname=\"heaptide.{program}\" name=\"{}: {}\" time=\"{seconds:.1}\"",
        escaped(row.name),
        escaped(&row.demand)
    );
    let (element, kind) = match row.overall {
        Overall::Passed => {
            let said = escaped(&row.said);
            let _ = if said.is_empty() {
                writeln!(xml, "/>")
            } else {
                writeln!(xml, "><system-out>{said}</system-out></testcase>")
            };
            return;
        }
        Overall::Failed { confirmed: true } => ("failure", "confirmed"),
        Overall::Failed { confirmed: false } => ("failure", "suspect"),
        Overall::Undecided => ("error", "insufficient_evidence"),
        Overall::TargetEnded => ("error", "process_ended"),
        Overall::LoadFailed => ("error", "load_failed"),
    };
    let mut details = row.said.clone();
    for finding in row.findings {
        let _ = write!(details, "\n{}\n  {}", headline(finding), kept(finding));
    }
    let message = row.findings.first().map_or_else(
        || row.said.clone(),
        |worst| format!("{} {}", row.said, headline(worst)),
    );
    let _ = writeln!(
        xml,
        ">\n      <{element} type=\"{kind}\" message=\"{}\">{}</{element}>\n    </testcase>",
        escaped(&message),
        escaped(&details)
    );
}

/// Text for element content and for attributes in double quotes. Characters that XML 1.0 does not allow become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push('\n'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::{check::tests, format::printable};

    #[test]
    fn a_hostile_route_is_read_back_as_it_is() {
        let report = tests::report();
        let xml = render(&tests::checked(&report));
        let read =
            roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
        let all = |name: &str| -> Vec<_> {
            read.descendants()
                .filter(|one| one.has_tag_name(name))
                .collect()
        };
        let cases = all("testcase");
        assert_eq!(cases.len(), 4, "{xml}");
        let names: Vec<_> = cases
            .iter()
            .filter_map(|one| one.attribute("name"))
            .collect();
        assert_eq!(
            names[0],
            "max-kept-per-token: at most 64 B kept per new token"
        );
        let suite = &all("testsuite")[0];
        for (name, value) in [("tests", "4"), ("failures", "1"), ("errors", "2")] {
            assert_eq!(suite.attribute(name), Some(value), "{xml}");
        }
        let failures = all("failure");
        let (message, details) = (failures[0].attribute("message"), failures[0].text());
        assert_eq!(failures[0].attribute("type"), Some("confirmed"));
        let route = printable(tests::HOSTILE, 100);
        for said in [message, details] {
            let said = said.expect("a text");
            for part in [
                &*route,
                "token_keyed",
                "app.py:17 get_data",
                "1.9 KiB per new token",
            ] {
                assert!(said.contains(part), "{part:?} in {said:?}");
            }
        }
        let errors = all("error");
        assert_eq!(errors[0].attribute("type"), Some("insufficient_evidence"));
        assert_eq!(errors[1].attribute("type"), Some("load_failed"));
        let said = errors[1].attribute("message").expect("a text");
        assert_eq!(
            said,
            format!("`{}` exited with 7", printable(tests::HOSTILE, 600))
        );
    }

    #[test]
    fn every_character_gives_a_document() {
        let every: String = ('\0'..='\u{ffff}').chain("\u{10ffff}".chars()).collect();
        let text = escaped(&every);
        let xml = format!("<a b=\"{}\">{text}</a>", text.replace('\n', ""));
        let read = roxmltree::Document::parse(&xml).expect("a document");
        assert!(
            read.root_element()
                .text()
                .is_some_and(|text| text.contains("<=>"))
        );
    }
}
