//! The comparison of two reports as text, and as JSON (`heaptide.diff/v1`).

use std::fmt::Write as _;
use std::path::Path;

use super::format::{base_name, bytes, cause, count, counted, duration, location, printable};
use super::format::{state, verdict};
use super::{OutputError, file};
use heaptide_judge::diff::{Amount, Change, Diff, Kind, Outcome, Place, RunSummary, Unit};
use heaptide_judge::report::FindingState;

/// Maximum length of a name.
const NAME: usize = 100;
/// Maximum length of a sentence.
const SENTENCE: usize = 400;
/// Further sites of a change.
const SITES: usize = 8;

/// Writes the comparison to `path` atomically, or to standard output.
pub fn write(diff: &Diff, path: Option<&Path>) -> Result<(), OutputError> {
    file::write_or_print("the comparison", path, render(diff).as_bytes())
}

/// The same as JSON.
pub fn write_json(diff: &Diff, path: Option<&Path>) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(diff).map_err(|error| OutputError::Encode {
        what: "the comparison",
        reason: error.to_string(),
    })?;
    file::write_or_print("the comparison", path, (text + "\n").as_bytes())
}

/// The result, the changes, and the runs.
pub fn render(diff: &Diff) -> String {
    let mut text = String::new();
    let word = match diff.outcome {
        Outcome::NoDifference => "NO DIFFERENCE",
        Outcome::Better => "BETTER",
        Outcome::Worse => "WORSE",
        Outcome::CannotTell => "CANNOT TELL",
    };
    line(&mut text, 0, word);
    line(&mut text, 1, &printable(&diff.reason, SENTENCE));
    for change in &diff.changes {
        push_change(&mut text, change);
    }
    text.push('\n');
    push_run(&mut text, "first ", &diff.before);
    push_run(&mut text, "second", &diff.after);
    for note in &diff.notes {
        line(
            &mut text,
            0,
            &format!("note    {}", printable(note, SENTENCE)),
        );
    }
    text
}

fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:width$}{content}", "", width = 2 * indent);
}

fn push_change(text: &mut String, change: &Change) {
    let word = match change.kind {
        Kind::New => "NEW",
        Kind::Grown => "GROWN",
        Kind::Gone => "GONE",
        Kind::Shrunk => "SHRUNK",
        Kind::CannotTell => "CANNOT TELL",
        Kind::Same => "SAME",
    };
    text.push('\n');
    let mut place = place(&change.site);
    if let Some(container) = &change.container {
        let _ = write!(place, "  {}", printable(container, NAME));
    }
    let title = format!(
        "{word} ({})  {}  {place}",
        cause(change.cause),
        printable(&change.route, NAME)
    );
    line(text, 0, title.trim_end());
    line(text, 1, &amounts(change));
    if !change.reason.is_empty() {
        line(text, 1, &printable(&change.reason, SENTENCE));
    }
    let states = [change.state_before, change.state_after];
    if let [Some(before), Some(after)] = states
        && before != after
    {
        line(text, 1, &format!("{} -> {}", state(before), state(after)));
    }
    let (before, after) = match change.kind {
        // All sites of the leak are.
        Kind::New | Kind::Gone => ("also", "also"),
        _ => ("only in the first run", "only in the second run"),
    };
    for (title, sites) in [(before, &change.sites_before), (after, &change.sites_after)] {
        for site in sites
            .iter()
            .take(SITES)
            .filter(|site| **site != change.site)
        {
            line(text, 1, &format!("{title}: {}", place_of(site)));
        }
    }
}

/// `1.9 KiB -> none per new token`.
fn amounts(change: &Change) -> String {
    let of = |amount: Option<Amount>, state: Option<FindingState>| match (amount, state) {
        (Some(amount), _) if amount.bytes > 0.0 => one(amount),
        (_, Some(_)) => "unknown".to_owned(),
        // It was not seen, which is all that is known.
        _ if change.kind == Kind::CannotTell => "not seen".to_owned(),
        _ => "none".to_owned(),
    };
    format!(
        "{} -> {} kept per {}",
        of(change.before, change.state_before),
        of(change.after, change.state_after),
        unit(change.unit)
    )
}

fn one(amount: Amount) -> String {
    let mut text = String::new();
    if amount.is_lower_bound {
        text.push_str(">= ");
    }
    // A small difference of large amounts is not visible in KiB.
    let exact = amount.bytes < 1e6;
    if exact {
        let _ = write!(text, "{} B", count(amount.bytes.round() as u64));
    } else {
        text.push_str(&bytes(amount.bytes));
    }
    if amount.error >= 0.5 {
        let _ = write!(text, " (+- {})", bytes(amount.error));
    }
    text
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::NewToken => "new token",
        Unit::KeptToken => "new token that is kept",
        Unit::RepeatToken => "repeated token",
        Unit::TokenRequest => "request with a token",
        Unit::Request => "request",
        Unit::Entry => "entry",
        Unit::Second => "second",
    }
}

fn place(site: &Place) -> String {
    if site.file.is_none() && site.function.starts_with('(') {
        return String::new();
    }
    place_of(site)
}

fn place_of(site: &Place) -> String {
    format!(
        "{} {}",
        location(site.file.as_deref(), site.line, &site.module),
        printable(&site.function, NAME)
    )
}

fn push_run(text: &mut String, which: &str, run: &RunSummary) {
    let missed = run
        .missed_bytes_per_second
        .map_or_else(String::new, |rate| {
            format!("; {} per second could have been missed", bytes(rate))
        });
    line(
        text,
        0,
        &format!(
            "{which}  {} in {} ({}, {}, mode {}), {}: {}{missed}",
            counted(run.requests, "request", "requests"),
            duration(run.seconds),
            printable(base_name(&run.exe), NAME),
            printable(&run.runtime, NAME),
            printable(&run.mode, NAME),
            counted(run.new_tokens, "new token", "new tokens"),
            verdict(run.verdict)
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::diff::compare;
    use heaptide_judge::fixtures;

    #[test]
    fn a_leak_that_kept_more_reads_well() {
        let (before, mut after) = (fixtures::leak(), fixtures::leak());
        after.findings[0].retained_bytes_per_new_token += 64.0;
        after.findings[0].site.line = Some(21);
        let text = render(&compare(&before, &after));
        assert!(text.starts_with("WORSE\n  1 finding: 1 grown.\n"), "{text}");
        assert!(
            text.contains("GROWN (token_keyed)  GET /api/data  app.py:21 get_data\n"),
            "{text}"
        );
        assert!(
            text.contains("1,947 B (+- 4 B) -> 2,011 B (+- 4 B) kept per new token that is kept"),
            "{text}"
        );
        assert!(
            text.contains("24,820 requests in 1 m 4 s (python3.11"),
            "{text}"
        );
    }

    #[test]
    fn hostile_names_cannot_drive_a_terminal() {
        let (before, mut after) = (fixtures::leak(), fixtures::leak());
        let evil = "\x1b[2J\n\u{202e}".to_owned();
        after.findings[0].route.clone_from(&evil);
        after.findings[0].site.function.clone_from(&evil);
        after.findings[0].site.module.clone_from(&evil);
        after.findings[0].site.file = Some(evil.clone());
        after.target.exe.clone_from(&evil);
        after.target.runtime.clone_from(&evil);
        after.target.mode.clone_from(&evil);
        after.version.clone_from(&evil);
        evil.clone_into(&mut after.reason);
        after.findings[0].retained_bytes_per_new_token = 1e308;
        let text = render(&compare(&before, &after));
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn the_interface_has_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diff.json");
        let diff = compare(&fixtures::leak(), &fixtures::leak());
        write_json(&diff, Some(&path)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Diff = serde_json::from_str(&text).unwrap();
        assert_eq!(read.changes[0].kind, diff.changes[0].kind);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema"], "heaptide.diff/v1");
        assert_eq!(value["outcome"], "no_difference");
        for path in [
            "/before/verdict",
            "/after/missed_bytes_per_second",
            "/reason",
            "/may_be_worse",
            "/notes",
            "/changes/0/kind",
            "/changes/0/cause",
            "/changes/0/route",
            "/changes/0/site/function",
            "/changes/0/site/line",
            "/changes/0/container",
            "/changes/0/unit",
            "/changes/0/before/bytes",
            "/changes/0/after/error",
            "/changes/0/after/is_lower_bound",
            "/changes/0/resolution",
            "/changes/0/sites_before",
        ] {
            assert!(value.pointer(path).is_some(), "{path}");
        }
    }
}
